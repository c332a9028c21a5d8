// The Train page: what to train on and how, what the data is, the list of trainings and the one that is open.
// Values are JSON; the server checks every field again.
rgtg.put = (root, ...children) => root.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== ""));
rgtg.facts = (pairs, id) => rgtg.el("dl", { class: "facts-list", id }, ...pairs.flatMap(([label, words, help]) => [rgtg.el("dt", { text: label, title: help || null }), rgtg.el("dd", { text: words, title: help || null })]));
rgtg.table = (head, rows, id) => rgtg.el("table", { class: "figures", id },
  rgtg.el("thead", {}, rgtg.el("tr", {}, ...head.map((text) => rgtg.el("th", { text, scope: "col" })))),
  rgtg.el("tbody", {}, ...rows.map((row) => rgtg.el("tr", {}, ...row.map((text) => rgtg.el("td", { text }))))));
// A table that scrolls where it does not fit, and then for the keyboard, too.
rgtg.scrolling = (label, table) => {
  const box = rgtg.el("div", { class: "table", role: "group", "aria-label": label }, table);
  const sized = new ResizeObserver(() => (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight ? box.setAttribute("tabindex", "0") : box.removeAttribute("tabindex")));
  for (const node of [box, table]) sized.observe(node);
  return box;
};
// For a moment a second press does nothing; what is refused can be pressed again.
rgtg.once = (button) => {
  button.disabled = true;
  setTimeout(() => (button.disabled = false), 3000);
};
rgtg.when = (iso) => {
  const date = new Date(iso || NaN), today = new Date().toDateString() === date.toDateString();
  return isNaN(date) ? "" : date.toLocaleString([], today ? { hour: "2-digit", minute: "2-digit" } : { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
};

// Data, start, name and options. Event `chosen` when something changes that the data depends on; `asked` in the value counts them.
rgtg.trainForm = (element, props, trigger, watch, upload, chosen) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let value = {};
  const put = (changes, tell) => {
    value = { ...value, ...changes };
    if (tell) value.asked = (value.asked ?? 0) + 1;
    props.value = JSON.stringify(value);
    if (tell) trigger(chosen, {});
  };
  const objective = () => value.training?.objective ?? props.fields.find((f) => f.name === "objective")?.default;
  const fields = () => props.fields.filter((f) => !f.objective || f.objective === objective()); // what is shown, and sent
  const option = (name, now) => {
    put({ training: { ...value.training, [name]: now } });
    const known = new Set(fields().map((f) => f.name));
    put({ training: Object.fromEntries(Object.entries(value.training).filter(([key]) => known.has(key))) }, props.fields.find((f) => f.name === name)?.data);
    if (name !== "objective") return;
    draw();
    root.querySelector("#train-objective")?.focus();
  };
  const text = (id, label, now, changed, placeholder) => {
    const input = el("input", { type: "text", id, "aria-label": label, placeholder: placeholder || null, autocomplete: "off", spellcheck: "false" });
    input.value = now ?? "";
    input.addEventListener("input", () => changed(input.value, false));
    input.addEventListener("change", () => changed(input.value, true));
    return input;
  };
  function field(spec) {
    const now = value.training?.[spec.name] ?? spec.default, id = "train-" + spec.name;
    if (spec.kind === "text") return rgtg.labelled(spec, text(id, spec.label, now, (words) => option(spec.name, words)));
    const input = rgtg.field(spec, spec.auto && now === 0 ? null : now, id, (found) => option(spec.name, found));
    if (spec.auto) input.placeholder = "auto";
    return rgtg.labelled(spec, input);
  }
  async function take(file, note) {
    note.textContent = `uploading ${file.name} …`;
    try {
      const { path } = await upload(file);
      put({ source: "file", path, uploaded: file.name, named: value.named }, true);
      draw();
    } catch {
      note.textContent = `${file.name} could not be uploaded: it may be too large. Enter its path instead.`;
    }
  }
  function source() {
    const select = rgtg.field({ label: "Data", choices: props.sources }, value.source, "train-source", (now) => { put({ source: now }, now === "votes" || value.path); draw(); });
    const line = [el("label", { class: "field" }, el("span", { text: "data" }), select)];
    if (value.source !== "file") return line;
    const note = el("span", { class: "quiet" });
    const file = el("input", { type: "file", accept: ".jsonl,.ndjson,.json,.csv,.tsv,.parquet,.arrow,.feather,.gz,.zst", id: "train-file", hidden: true, "aria-label": "Preference data file" });
    file.addEventListener("change", () => file.files[0] && take(file.files[0], note));
    const path = text("train-path", "File on this machine, or owner/name of a dataset on the Hugging Face Hub", value.uploaded || value.path, (words, ended) => put({ path: words.trim(), uploaded: "" }, ended && words.trim()), "file, or owner/name/subset/split on the Hugging Face Hub");
    return [...line, path, el("button", { type: "button", id: "train-upload", title: "Rows with prompt, chosen and rejected, or with two answers and a winner: JSON, CSV, Parquet or Arrow, also gzipped", onclick: () => file.click(), text: "Upload …" }), file, note];
  }
  function draw() {
    const open = root.querySelector("details")?.open;
    const [first, rest] = [fields().filter((f) => f.first), fields().filter((f) => !f.first)];
    const start = rgtg.field({ label: "Start from", choices: props.starts, help: "Model to initialize from; a reward model becomes the parent of the new one" }, value.start, "train-start-model", (now) => put({ start: now }, true));
    const name = text("train-name", "Name of the new model", value.name, (words, ended) => put({ name: words, named: true }, false));
    name.maxLength = 64;
    rgtg.put(root,
      el("div", { class: "line" }, ...source()),
      el("div", { class: "line" }, el("label", { class: "field" }, el("span", { text: "start from" }), start), ...first.filter((spec) => spec.choices).map(field)),
      el("div", { class: "line" }, ...first.filter((spec) => !spec.choices).map(field)),
      el("div", { class: "line" }, el("label", { class: "field" }, el("span", { text: "name" }), name)),
      el("details", { id: "train-more", open: !!open }, el("summary", { text: `${rest.length} more options` }),
        el("div", { class: "options" }, ...rest.map((spec) => el("div", { class: "option" }, field(spec), el("p", { class: "help", text: spec.help }))))));
  }
  function fill() {
    if (props.value === JSON.stringify(value)) return;
    value = JSON.parse(props.value || "{}");
    draw();
  }
  function rename() {
    // a name of the page's own making gives way, and so does one that has just been used; nothing else changes under the pointer
    const { name, used } = JSON.parse(props.suggested || "{}"), input = root.querySelector("#train-name");
    if (!name || !input || (value.named && value.name !== used)) return;
    input.value = name;
    put({ name, named: false });
  }
  document.title = "rgtg · Train";
  watch("value", fill);
  watch(["starts", "sources", "fields"], draw);
  watch("suggested", rename);
  fill();
};

// What the data is: facts, what is left out and why, remarks; or why it cannot be used. Looks run side by side, and one that was
// asked for before the last choice may end after it: it is not drawn.
rgtg.dataView = (element, props, watch) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let newest = 0;
  function draw() {
    const report = JSON.parse(props.value || "{}"), asked = report.asked ?? 0;
    if (asked < newest) return;
    newest = asked;
    const list = (items, cls) => (items?.length ? el("ul", { class: cls }, ...items.map((text) => el("li", { text }))) : null);
    rgtg.put(root,
      el("h2", { text: "Data" }),
      report.words ? el("p", { class: report.wrong ? "wrong" : "quiet", text: report.words }) : null,
      report.facts?.length ? rgtg.facts(report.facts, "data-facts") : null,
      report.left_out?.length ? el("h3", { text: "Excluded" }) : null, list(report.left_out, "left-out"),
      report.remarks?.length ? el("h3", { text: "Notes" }) : null, list(report.remarks, "remarks"));
  }
  watch("value", draw);
  draw();
};

// The trainings, the newest first. Event `open_job` {job}.
rgtg.jobList = (element, props, trigger, watch, openJob) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  function draw() {
    const list = JSON.parse(props.value || "{}"), focus = root.contains(document.activeElement) ? document.activeElement.dataset.job : null;
    const rows = (list.jobs ?? []).map((job) => el("button", { type: "button", class: "job", "data-job": job.id, "data-state": job.state, "aria-pressed": String(job.id === list.open), onclick: () => trigger(openJob, { job: job.id }) },
      el("span", { class: "name", text: job.name }), el("span", { class: "when", text: rgtg.when(job.created_at) }), el("span", { class: "what", text: job.words })));
    rgtg.put(root, el("h2", { text: "Training runs" }), ...(rows.length ? rows : [el("p", { class: "quiet", text: "None yet. A run continues in the background when you leave this page." })]));
    if (focus) root.querySelector(`[data-job="${CSS.escape(focus)}"]`)?.focus();
  }
  watch("value", draw);
  draw();
};

// The open training: how far it is, what can be done. Events `cancel_job`, `resume_job` {job}.
rgtg.jobView = (element, props, trigger, watch, cancelJob, resumeJob) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  function draw() {
    const job = JSON.parse(props.value || "{}");
    if (!job.id) return void root.replaceChildren();
    const act = (name, event, text, title) => {
      const button = el("button", { type: "button", id: name, title, text, onclick: () => { rgtg.once(button); trigger(event, { job: job.id }); } });
      return button;
    };
    const bar = el("div", { class: "bar", role: "progressbar", "aria-label": "Training progress", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * (job.share ?? 0)) }, el("i"));
    bar.firstChild.style.width = `${100 * (job.share ?? 0)}%`;
    const log = root.querySelector("#job-log");
    rgtg.put(root,
      el("div", { class: "job-head" }, el("h2", { text: job.name }), el("span", { id: "job-state", "data-state": job.state, text: job.words }),
        job.cancel ? act("job-cancel", cancelJob, "Cancel", "Stop this run; no model is saved") : null,
        job.resume ? act("job-resume", resumeJob, "Resume", "Resume from the last complete checkpoint") : null,
        job.model ? el("a", { class: "link", href: job.model, text: "Model card" }) : null,
        job.lineup ? el("a", { class: "main-link", id: "try-in-compare", href: job.lineup, text: "Try it in Compare" }) : null),
      job.share !== null && job.share !== undefined ? bar : null,
      el("p", { class: "quiet", text: job.about }),
      job.error ? el("p", { class: "wrong", id: "job-error", text: job.error }) : null,
      job.log ? el("details", { id: "job-log", open: !!log?.open }, el("summary", { text: "Last lines of the log" }), el("pre", { text: job.log })) : null);
  }
  watch("value", draw);
  draw();
};

// The held-out report of a model, in words and tables; accuracy by length of the prefix is a table of its own.
rgtg.report = (element, props, watch) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  function draw() {
    const report = JSON.parse(props.value || "{}");
    rgtg.put(root,
      report.verdict ? el("p", { class: "verdict", id: "verdict", text: report.verdict }) : null,
      report.sentence ? el("p", { id: "verdict-sentence", text: report.sentence }) : null,
      report.facts?.length ? rgtg.facts(report.facts, "report-facts") : null,
      report.calibration ? el("h3", { text: "Calibration: predicted probability against accuracy" }) : null,
      report.calibration ? rgtg.scrolling("Calibration", rgtg.table(report.calibration.head, report.calibration.rows, "calibration-table")) : null);
  }
  watch("value", draw);
  draw();
};
rgtg.lengths = (element, props, watch) => {
  const root = element.querySelector(".drawn");
  function draw() {
    const { lengths } = JSON.parse(props.value || "{}");
    rgtg.put(root, lengths ? rgtg.scrolling("Accuracy by length of the prefix", rgtg.table(lengths.head, lengths.rows, "accuracy-table")) : null);
  }
  watch("value", draw);
  draw();
};
