// The sweeps and the one that is open: how far it is, its maps and table, and the answers behind a point. Values are JSON (pages/sweep.py).
rgtg.sweepList = (element, props, trigger, watch, openSweep) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const editor = () => document.getElementById("grid-editor");
  let shut = false, open = "";
  function toggle() {
    const closed = editor()?.classList.toggle("shut");
    document.getElementById("new-sweep")?.setAttribute("aria-expanded", String(!closed));
    if (!closed) {
      editor().scrollIntoView({ block: "nearest" });
      document.getElementById("grid-source")?.focus();
    }
  }
  function draw() {
    const list = JSON.parse(props.value || "{}"), focus = root.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    if (!list.sweeps) return;
    if (list.open && open && list.open !== open) { // who reloads finds it again
      const address = new URL(location.href);
      address.searchParams.set("sweep", list.open);
      history.replaceState(null, "", address);
    }
    open = list.open;
    if (!shut && list.sweeps.length) editor()?.classList.add("shut"); // who comes to look at results begins with them
    shut = true;
    const rows = list.sweeps.map((one) => el("button", { type: "button", class: "job", "data-name": one.name, "data-state": one.state, "aria-pressed": String(one.name === list.open), onclick: () => trigger(openSweep, { name: one.name }) },
      el("span", { class: "name", text: one.name }), el("span", { class: "when", text: rgtg.when(one.created_at) }), el("span", { class: "what", text: one.words })));
    const add = list.sweeps.length ? el("button", { type: "button", id: "new-sweep", "aria-expanded": String(!editor()?.classList.contains("shut")), "aria-controls": "grid-editor", text: "New sweep", onclick: toggle }) : null;
    rgtg.put(root, el("div", { class: "list-head" }, el("h2", { text: "Sweeps" }), add),
      ...(rows.length ? rows : [el("p", { class: "quiet", text: "None yet. A sweep continues in the background when you leave this page." })]));
    if (focus) root.querySelector(`[data-name="${CSS.escape(focus)}"]`)?.focus();
  }
  watch("value", draw);
  draw();
};

// The open sweep. Events `stop_sweep`, `resume_sweep` {name, keep}, `save_sweep` {name, form}; PNG is made here.
rgtg.sweepHead = (element, props, trigger, watch, stop, resume, save) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let form = "csv";
  const plot = () => document.querySelector("#sweep-frontier .js-plotly-plot");
  async function png(name) {
    const node = plot(), style = getComputedStyle(document.body);
    if (!node || !window.Plotly) return;
    const layout = { ...node.layout, paper_bgcolor: style.getPropertyValue("--paper").trim() || "#ffffff" };
    const address = await window.Plotly.toImage({ data: node.data, layout }, { format: "png", width: 1000, height: 560, scale: 2 });
    rgtg.download(`${name}.png`, await (await fetch(address)).blob(), "image/png");
  }
  function downloads(sweep) {
    if (!sweep.forms?.length) return null;
    const picker = rgtg.field({ label: "What is downloaded", choices: [...sweep.forms, ["png", "plot, PNG"]] }, form, "sweep-form", (now) => { form = now; });
    return el("span", { class: "save" }, picker, el("button", { type: "button", id: "save-sweep", text: "Download", onclick: () => (form === "png" ? png(sweep.name) : trigger(save, { name: sweep.name, form })) }));
  }
  function draw() {
    const sweep = JSON.parse(props.value || "{}");
    if (!sweep.name) return void root.replaceChildren();
    const focused = root.contains(document.activeElement) ? document.activeElement.id : "", log = root.querySelector("#sweep-log");
    const act = (id, words, title, act) => { const button = el("button", { type: "button", id, title, text: words, onclick: () => { rgtg.once(button); act(); } }); return button; };
    const bar = el("div", { class: "bar", role: "progressbar", "aria-label": "Progress of the sweep", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * (sweep.share ?? 0)) }, el("i"));
    bar.firstChild.style.width = `${100 * (sweep.share ?? 0)}%`;
    rgtg.put(root,
      el("div", { class: "job-head" }, el("h2", { text: sweep.name }), el("span", { id: "sweep-state", "data-state": sweep.state, text: sweep.words }),
        sweep.stop ? act("stop-sweep", "Stop", "End this sweep; complete groups of answers are kept", () => trigger(stop, { name: sweep.name })) : null,
        sweep.resume ? act("resume-sweep", sweep.keep ? "Resume with the old answers" : "Resume", "Make what is missing", () => trigger(resume, { name: sweep.name, keep: !!sweep.keep })) : null,
        sweep.draft ? el("button", { type: "button", id: "edit-sweep", title: "Fill the form with this grid, to change it and start another", text: "Use as template", onclick: () => rgtg.editSweep?.(JSON.parse(sweep.draft)) }) : null,
        downloads(sweep)),
      sweep.share !== undefined ? bar : null,
      sweep.about ? el("p", { class: "quiet", text: sweep.about }) : null,
      sweep.error ? el("p", { class: "wrong", id: "sweep-error", text: sweep.error }) : null,
      sweep.log ? el("details", { id: "sweep-log", open: !!log?.open }, el("summary", { text: "Last lines of the log" }), el("pre", { text: sweep.log })) : null);
    if (focused) document.getElementById(focused)?.focus();
  }
  watch("value", draw);
  draw();
};

// Maps of two parameters, and the table; a setting, a cell and a point of the plot open their answers.
rgtg.sweepTables = (element, props, trigger, watch, readAnswers) => {
  const { el, plain, signed, percent } = rgtg;
  const root = element.querySelector(".drawn"), SYMBOLS = { beta: "β", top_k: "k", alpha: "α", mu: "μ", weight: "λ" };
  const MEASURES = { judge: ["judge, mean", (v) => signed(v)], kl: ["KL, nats", (v) => plain(v, 1)], positive: ["judged positive", percent] };
  let value = {}, measure = "judge";
  const read = (setting) => trigger(readAnswers, { name: value.name, setting, order: document.getElementById("answers-order")?.value || "prompt", asked: Date.now() });
  const symbol = (name) => SYMBOLS[name] ?? name.replaceAll("_", " ");

  function heat(map) {
    const shown = map.cells.flat().filter(Boolean).map((cell) => cell[measure]).filter((v) => v !== undefined && v !== null), low = Math.min(...shown), high = Math.max(...shown);
    const cell = (one, i, j) => {
      if (!one || one[measure] === undefined || one[measure] === null) return el("td", {}, el("span", { class: "quiet", text: one ? "…" : "–" }));
      const words = MEASURES[measure][1](one[measure]);
      const button = el("button", { type: "button", class: "heat", title: `${one.setting}: ${one.n} answers`, "aria-label": `${symbol(map.x)} ${map.xs[j]}, ${symbol(map.y)} ${map.ys[i]}: ${words}`, text: words, onclick: () => read(one.setting) });
      button.style.setProperty("--m", high > low ? (one[measure] - low) / (high - low) : 0.5);
      return el("td", {}, button);
    };
    return el("figure", { class: "heat-map" }, el("figcaption", { text: map.title }),
      rgtg.scrolling(map.title, el("table", { class: "figures" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col", text: `${symbol(map.y)} \\ ${symbol(map.x)}` }), ...map.xs.map((x) => el("th", { scope: "col", text: x })))),
        el("tbody", {}, ...map.cells.map((line, i) => el("tr", {}, el("th", { scope: "row", text: map.ys[i] }), ...line.map((one, j) => cell(one, i, j))))))));
  }
  function draw() {
    value = JSON.parse(props.value || "{}");
    const focused = root.contains(document.activeElement) ? document.activeElement.id || document.activeElement.dataset.setting : "";
    if (!value.table) return void rgtg.put(root, value.name ? el("p", { class: "quiet", text: "The first results appear with the first group of answers." }) : "");
    const [head, rows] = value.table;
    const table = el("table", { class: "figures", id: "sweep-table" },
      el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { text, scope: "col" })))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((text, c) => (c ? el("td", { text }) : el("td", {}, el("button", { type: "button", class: "inline", "data-setting": text, title: "Read its answers", text, onclick: () => read(text) }))))))));
    const maps = value.maps?.length ? [el("div", { class: "list-head" }, el("h2", { text: "By two parameters" }), rgtg.field({ label: "What the maps show", choices: Object.entries(MEASURES).map(([key, [title]]) => [key, title]) }, measure, "heat-measure", (now) => { measure = now; draw(); document.getElementById("heat-measure")?.focus(); })),
      el("div", { class: "heat-maps" }, ...value.maps.map(heat))] : [];
    rgtg.put(root, ...maps, el("h2", { text: "Settings, with 95 % intervals over prompts" }), value.note ? el("p", { class: "help", text: value.note }) : "", rgtg.scrolling("Settings", table));
    if (focused) (document.getElementById(focused) ?? root.querySelector(`[data-setting="${CSS.escape(focused)}"]`))?.focus();
  }
  function attach() {
    const node = document.querySelector("#sweep-frontier .js-plotly-plot");
    if (!node?.on || node.rgtg) return;
    node.rgtg = true;
    node.on("plotly_click", (event) => { const setting = event.points?.[0]?.text; if (setting) read(setting); });
  }
  const find = () => {
    const home = document.getElementById("sweep-open");
    if (!home) return void (element.isConnected && setTimeout(find, 200));
    new MutationObserver(attach).observe(home, { childList: true, subtree: true });
    attach();
  };
  setTimeout(find);
  watch("value", draw);
  draw();
};

// Methods at one KL, beside one of them if that is chosen. Event `match_kl` {name, kl, minus}; new answers take the table away.
rgtg.sweepMatched = (element, props, trigger, watch, match) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let name = "", kl = "", minus = "";
  function draw() {
    const value = JSON.parse(props.value || "{}"), focused = root.contains(document.activeElement) ? document.activeElement.id : "";
    if (!value.families?.length) return void root.replaceChildren();
    if (value.name !== name) [name, kl, minus] = [value.name, value.kl, ""];
    if (!value.families.includes(minus)) minus = "";
    const field = (spec, now, changed) => rgtg.labelled(spec, rgtg.field(spec, now, spec.id, changed));
    const start = el("button", { type: "button", id: "matched-start", text: "Compare", onclick: () => { rgtg.once(start); trigger(match, { name, kl, minus }); } });
    const [head, rows] = value.table ?? [[], []];
    rgtg.put(root,
      el("div", { class: "list-head" }, el("h2", { text: "At equal KL", title: "Weights of different reward models are in different units: at one KL to the base LM they can be compared" }),
        field({ id: "matched-kl", label: "nats", min: 0.01, max: props.max_kl, help: "KL to the base LM; between two weights of a method its judge is interpolated" }, kl, (now) => { kl = now; }),
        field({ id: "matched-minus", label: "minus", choices: [["", "nothing"], ...value.families.map((one) => [one, one])], help: "Also the paired difference to this method, on the same prompts" }, minus, (now) => { minus = now; }),
        start),
      value.table && !rows.length ? el("p", { class: "help", text: `No method has weights on both sides of ${value.kl} nats.` }) : null,
      rows.length ? rgtg.scrolling("Methods at equal KL", rgtg.table(head, rows, "matched-table")) : null);
    if (focused) document.getElementById(focused)?.focus();
  }
  watch("value", draw);
  draw();
};

// The answers of one setting; `asked` says when they were asked for.
rgtg.sweepAnswers = (element, props, trigger, watch, readAnswers) => {
  const { el, signed, plain } = rgtg;
  const root = element.querySelector(".drawn");
  let shown = "", newest = 0;
  function answer(one) {
    const facts = [`judge ${signed(one.judge)}`, one.kl !== null && `KL ${plain(one.kl, 1)}`, one.guide !== null && `guide ${signed(one.guide)}`, `${one.tokens} tok`, `seed ${one.seed}`, one.stop !== "eos" && "not ended"];
    return el("li", { class: "sweep-answer" }, el("div", { class: "text", dir: "auto" }, el("span", { class: "prompt", text: one.prompt }), el("span", { text: one.text })), el("div", { class: "facts", text: facts.filter(Boolean).join(" · ") }));
  }
  function draw() {
    const value = JSON.parse(props.value || "{}"), focused = root.contains(document.activeElement) ? document.activeElement.id : "";
    if (value.asked < newest) return; // an answer to an older click that came late
    newest = value.asked ?? 0;
    if (!value.setting) return void rgtg.put(root, el("p", { class: "quiet hint", text: "A click on a point of the plot, a setting of the table or a cell of a map shows its answers here." }));
    const order = rgtg.field({ label: "Order of the answers", choices: props.orders }, value.order, "answers-order", (now) => trigger(readAnswers, { name: value.name, setting: value.setting, order: now, asked: Date.now() }));
    const words = value.answers.length < value.total ? `${value.answers.length} of ${value.total.toLocaleString("en")} answers` : `${value.total} answers`;
    rgtg.put(root, el("div", { class: "list-head" }, el("h2", { text: value.setting }), el("span", { class: "quiet", text: words }), order),
      el("ol", { class: "answers", tabindex: "0", "aria-label": `Answers of ${value.setting}` }, ...value.answers.map(answer)));
    if (focused) document.getElementById(focused)?.focus();
    if (shown !== (shown = `${value.name} ${value.setting}`)) element.scrollIntoView({ block: "nearest" });
  }
  watch("value", draw);
  draw();
};
