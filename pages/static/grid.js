// The grid of a sweep: prompts, what all rows share, and a row for every method, of which each parameter takes several values.
// The value is JSON (pages/sweep_form.py); the server checks every field again. What was typed is kept for who comes back to the page.
rgtg.gridForm = (element, props, trigger, watch, upload, changed, copyCommand) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn"), KEPT = "rgtg-grid", FILE = "file", TYPED = "typed";
  const letterOf = (i) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i] ?? "?";
  let value = {}, restored = false;
  document.title = "rgtg · Sweep";
  const prompts = () => document.querySelector("#grid-prompts textarea");
  const typed = (text) => { // as by hand, so that Gradio has it too
    const box = prompts();
    if (!box || box.value === text) return;
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(box, text);
    box.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const put = (changes) => {
    value = { ...value, ...changes };
    props.value = JSON.stringify(value);
    trigger(changed, {});
  };
  const putRow = (i, changes) => put({ rows: value.rows.map((row, j) => (j === i ? { ...row, ...changes } : row)) });
  const methodOf = (row) => props.methods.find((m) => m.key === row.method) ?? props.methods[0];
  const installed = () => props.models.filter((m) => m.fits.includes(value.base_lm));
  const fitting = () => installed().filter((m) => !m.only_role);
  const best = (method) => (!method.uses_reward || method.roles.length ? null : (method.objectives.map((wanted) => fitting().find((m) => m.objective === wanted)).find(Boolean) ?? fitting()[0])?.name ?? null);
  const rowOf = (key) => {
    const method = props.methods.find((m) => m.key === key), [first] = method.parameters;
    return { method: key, reward_model: best(method), params: first ? { [first.name]: String(first.default) } : {} };
  };
  const focus = (id) => document.getElementById(id)?.focus();

  // ---- fields -------------------------------------------------------------------------------------
  const text = (id, label, now, put, { help = "", placeholder = "", width = "" } = {}) => {
    const input = el("input", { type: "text", id, "aria-label": label, title: help || null, placeholder: placeholder || null, autocomplete: "off", spellcheck: "false", maxlength: 2000, class: width });
    input.value = now ?? "";
    input.addEventListener("input", () => put(input.value));
    return input;
  };
  const values = (words) => new Set(String(words ?? "").split(/[\s,;]+/).filter(Boolean)).size || 1;
  const numValues = (row) => methodOf(row).parameters.filter((p) => !p.text).reduce((n, p) => n * values(row.params?.[p.name]), values(row.top_k));
  const counted = () => root.querySelectorAll(".grid-count").forEach((node, i) => { const n = numValues(value.rows[i]); node.textContent = n === 1 ? "1 setting" : `${n} settings`; });
  function parameter(p, row, i) {
    const id = `grid-${letterOf(i)}-${p.name}`, range = p.choices.length ? p.choices.join(", ") : p.min === null ? "" : `${p.min}…${p.max}`;
    const help = `${p.help}${range && ` (${range})`}${p.text ? "" : ". Several values make a grid: separate them by commas"}`;
    const input = text(id, `${p.label} of row ${letterOf(i)}`, row.params?.[p.name], (words) => { putRow(i, { params: { ...value.rows[i].params, [p.name]: words } }); counted(); }, { help, placeholder: String(p.default), width: p.text ? "wide" : "" });
    return rgtg.labelled({ label: p.label, help }, input);
  }
  function k(row, i) {
    const help = `${props.k.help}, k (${props.k.min}…${props.k.max}). Several values make a grid`;
    const input = text(`grid-${letterOf(i)}-top_k`, `k of row ${letterOf(i)}`, row.top_k, (words) => { putRow(i, { top_k: words }); counted(); }, { help, placeholder: String(props.k.default) });
    return rgtg.labelled({ label: "k", help }, input);
  }
  function models(row, method, i) {
    const id = (name) => `grid-${letterOf(i)}-${name}`;
    if (!method.uses_reward) return null;
    if (method.roles.length) return rgtg.roles.pickers({ value: row, method, models: installed(), lm: value.base_lm, id, column: letterOf(i), put: (guides) => { putRow(i, { guides }); draw(); } });
    const names = fitting().map((m) => m.name), mixed = row.mixed || (row.reward_model && !names.includes(row.reward_model));
    if (mixed) {
      const input = text(id("reward_model"), `Mix of reward models of row ${letterOf(i)}`, row.reward_model, (words) => putRow(i, { reward_model: words }), { help: `Reward models with their weights: ${names.slice(0, 2).join("*2+")}*0.5`, placeholder: "partial*2+length*0.5", width: "wide" });
      return el("span", { class: "mix" }, input, el("button", { type: "button", class: "plain", title: "Choose one reward model instead", "aria-label": `One reward model in row ${letterOf(i)}`, text: "one", onclick: () => { putRow(i, { mixed: false, reward_model: best(method) }); draw(); focus(id("reward_model")); } }));
    }
    const list = [...fitting().map((m) => [m.name, m.label]), ["+", "a mix …"]];
    return rgtg.field({ label: `Reward model of row ${letterOf(i)}`, choices: list }, row.reward_model ?? "", id("reward_model"), (name) => {
      putRow(i, name === "+" ? { mixed: true } : { reward_model: name });
      if (name === "+") { draw(); focus(id("reward_model")); }
    });
  }

  // ---- rows ---------------------------------------------------------------------------------------
  function gridRow(row, i) {
    const method = methodOf(row), [first, ...rest] = method.parameters, letter = letterOf(i);
    const set = rest.filter((p) => (row.params?.[p.name] ?? "") !== ""), open = root.querySelector(`#grid-more-${letter}`)?.open ?? set.length > 0;
    const choices = props.methods.map((m) => [m.key, m.title, m.group, m.about]);
    const picker = rgtg.field({ label: `Method of row ${letter}`, choices, help: method.about }, row.method, `grid-${letter}-method`, (key) => {
      put({ rows: value.rows.map((one, j) => (j === i ? { ...rowOf(key), top_k: one.top_k } : one)) });
      draw();
      focus(`grid-${letter}-method`);
    });
    return el("li", { class: "grid-row" },
      el("span", { class: "grid-letter", text: letter }), picker, models(row, method, i), first && parameter(first, row, i), k(row, i),
      rest.length ? el("details", { id: `grid-more-${letter}`, open }, el("summary", { text: `${rest.length} more`, "aria-label": `${rest.length} more parameters of row ${letter}` }), el("div", { class: "grid-rest" }, ...rest.map((p) => parameter(p, row, i)))) : null,
      el("span", { class: "grid-count quiet" }),
      el("button", { type: "button", class: "plain remove", title: "Remove this row", "aria-label": `Remove row ${letter}`, text: "×", onclick: () => { put({ rows: value.rows.filter((_, j) => j !== i) }); draw(); focus("grid-add-row"); } }));
  }
  function addRow() {
    const used = new Set(value.rows.map((row) => row.method)), next = props.methods.find((m) => !used.has(m.key) && (!m.uses_reward || best(m))) ?? props.methods[0];
    put({ rows: [...value.rows, rowOf(next.key)] });
    draw();
    focus(`grid-${letterOf(value.rows.length - 1)}-method`);
  }

  // ---- prompts and what all rows share ------------------------------------------------------------
  async function take(file, note) {
    note.textContent = `uploading ${file.name} …`;
    try {
      const { path } = await upload(file);
      put({ source: FILE, file: path, uploaded: file.name });
      draw();
    } catch {
      note.textContent = `${file.name} could not be uploaded: it may be too large. Enter its path instead.`;
    }
  }
  function source() {
    const select = rgtg.field({ label: "Prompts", choices: props.sources }, value.source, "grid-source", (now) => { put({ source: now }); draw(); focus("grid-source"); });
    const line = [el("label", { class: "field" }, el("span", { text: "prompts" }), select)];
    if (value.source === FILE) {
      const note = el("span", { class: "quiet" }), file = el("input", { type: "file", accept: ".txt,.jsonl,.json,.csv,.tsv,.parquet", id: "grid-upload-file", hidden: true, "aria-label": "File of prompts" });
      file.addEventListener("change", () => file.files[0] && take(file.files[0], note));
      line.push(text("grid-file", "File of prompts on this machine", value.uploaded || value.file, (words) => put({ file: words, uploaded: "" }), { placeholder: "a prompt a line, or rows with `prompt`", width: "wide" }),
        el("button", { type: "button", id: "grid-upload", text: "Upload …", onclick: () => file.click() }), file, note);
    }
    line.push(number({ name: "limit", label: "first", help: "Use only the first prompts; empty: all of them", min: 1, max: 5000, step: 1 }));
    return line;
  }
  const number = (spec) => rgtg.labelled(spec, rgtg.field(spec, value[spec.name] ?? null, `grid-${spec.name}`, (now) => put({ [spec.name]: now })));
  function shared() {
    const lm = rgtg.field({ label: "Base LM", choices: props.lms }, value.base_lm, "grid-base_lm", (now) => {
      const judges = props.judges[now] ?? [];
      value.base_lm = now;
      put({ judge: judges.some(([name]) => name === value.judge) ? value.judge : (judges[0]?.[0] ?? ""), rows: value.rows.map((row) => (installed().some((m) => m.name === row.reward_model) ? row : { ...row, reward_model: best(methodOf(row)), guides: undefined })) });
      draw();
      focus("grid-base_lm");
    });
    const judge = rgtg.field({ label: "Judge", choices: props.judges[value.base_lm] ?? [], help: "The reward model that judges the finished answers and never guides; above its zero an answer counts as positive" }, value.judge, "grid-judge", (now) => put({ judge: now }));
    const seeds = { name: "seeds", label: "seeds", help: "Random seeds of each prompt; more narrow the intervals", min: 1, max: 100, step: 1 };
    return [rgtg.labelled({ label: "base LM" }, lm), rgtg.labelled({ label: "judge" }, judge), number(seeds), ...props.fields.map(number)];
  }
  function draw() {
    if (!value.rows) return;
    document.getElementById("grid-editor")?.classList.toggle("typed", value.source === TYPED);
    const focused = root.contains(document.activeElement) ? document.activeElement.id : "";
    rgtg.put(root,
      el("div", { class: "line" }, ...source(), ...shared()),
      el("ol", { class: "grid-rows", "aria-label": "Methods" }, ...value.rows.map(gridRow)),
      el("div", { class: "line" },
        el("button", { type: "button", id: "grid-add-row", text: "Add a method", onclick: addRow }),
        el("label", { class: "field" }, el("span", { text: "name" }), text("grid-name", "Name of the sweep", value.name, (words) => put({ name: words }), { placeholder: "by its methods" })),
        el("button", { type: "button", id: "grid-command", title: "Copy the command that makes the same answers in a terminal", text: "Copy command", onclick: () => trigger(copyCommand, {}) })));
    counted();
    if (focused) focus(focused);
  }

  // ---- kept ---------------------------------------------------------------------------------------
  function fill() {
    if (props.value === JSON.stringify(value) || !props.methods.length) return;
    const sent = JSON.parse(props.value || "{}");
    if (!sent.rows) return;
    value = sent;
    if (!restored) restore();
    draw();
    put({});
  }
  function restore() {
    restored = true;
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEPT) || "null");
      if (kept) use(kept.form, kept.prompts);
    } catch { /* nothing was kept */ }
  }
  function use(form, text) {
    if (form?.rows?.every((row) => props.methods.some((m) => m.key === row.method))) value = { ...value, ...form };
    const wait = () => (prompts() ? typed(text ?? "") : element.isConnected && setTimeout(wait, 100));
    if (text) wait();
  }
  rgtg.editSweep = ({ form, prompts: text }) => { // the grid of a sweep, to change it and start another
    use({ ...form, name: "" }, text);
    document.getElementById("grid-editor")?.classList.remove("shut");
    draw();
    put({});
    document.getElementById("grid-editor")?.scrollIntoView({ block: "nearest" });
    focus("grid-source");
  };
  addEventListener("pagehide", () => {
    if (value.rows) try { sessionStorage.setItem(KEPT, JSON.stringify({ form: value, prompts: prompts()?.value ?? "" })); } catch { /* then it is not kept */ }
  });
  rgtg.copyGrid = async (words) => {
    const button = document.getElementById("grid-command");
    try {
      await navigator.clipboard.writeText(words);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy command"), 2000);
    } catch {
      window.prompt("The command that makes the same answers", words);
    }
  };
  watch("value", fill);
  watch(["methods", "models", "sources", "lms", "judges", "fields", "k"], () => { fill(); draw(); });
  fill();
};
