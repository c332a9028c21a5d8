// The Examine page: what is examined, the figures beside accuracy, and one pair token by token. Values are JSON (pages/examine.py).
rgtg.examineForm = (element, props, watch, upload) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let value = {};
  const put = (changes) => { value = { ...value, ...changes }; props.value = JSON.stringify(value); };
  const text = (id, label, name, tag = "input") => {
    const input = el(tag, { id: "examine-" + id, "aria-label": label, placeholder: label, autocomplete: "off", spellcheck: "false", dir: "auto", ...(tag === "input" ? { type: "text" } : { rows: 2, maxlength: props.most.text }) });
    input.value = value[name] ?? "";
    input.addEventListener("input", () => put({ [name]: input.value }));
    return input;
  };
  async function take(file, note) {
    note.textContent = `uploading ${file.name} …`;
    try { put({ path: (await upload(file)).path, uploaded: file.name }); draw(); }
    catch { note.textContent = `${file.name} could not be uploaded: it may be too large. Enter its path instead.`; }
  }
  function pairs() {
    if (value.source === "typed") return el("div", { class: "typed" }, text("prompt", "Prompt, may be empty", "prompt"), text("chosen", "Chosen answer", "chosen", "textarea"), text("rejected", "Rejected answer", "rejected", "textarea"));
    if (value.source !== "file" && value.source !== "choices") return null;
    const layout = value.source === "file" ? "Rows with prompt, chosen and rejected, in any layout that trainings read" : "Rows with prompt, chosen and rejected, each side an answer or a list of answers, and, if given, subset, as in RewardBench";
    const note = el("span", { class: "quiet", text: value.uploaded ?? "" });
    const file = el("input", { type: "file", hidden: true, id: "examine-file", "aria-label": "File to examine on", accept: ".jsonl,.ndjson,.json,.csv,.tsv,.parquet,.arrow,.feather,.gz,.zst" });
    file.addEventListener("change", () => file.files[0] && take(file.files[0], note));
    const path = text("path", "File, or owner/name of a data set on the Hugging Face Hub", "path");
    if (value.uploaded) path.value = value.uploaded;
    path.addEventListener("input", () => { put({ uploaded: "" }); note.textContent = ""; });
    return el("div", { class: "line" }, path, el("button", { type: "button", id: "examine-upload", title: layout, text: "Upload …", onclick: () => file.click() }), file, note);
  }
  function draw() {
    const focus = root.contains(document.activeElement) ? document.activeElement.id : "";
    const chosen = new Set(value.models ?? []);
    const check = (name) => {
      const input = el("input", { type: "checkbox", value: name });
      input.checked = chosen.has(name);
      input.addEventListener("change", () => { input.checked ? chosen.add(name) : chosen.delete(name); put({ models: props.models.filter((one) => chosen.has(one)) }); });
      return el("label", { class: "field check" }, el("span", { text: name }), input);
    };
    const field = (spec) => rgtg.labelled(spec, rgtg.field(spec, value[spec.name], "examine-" + spec.name, (now) => { put({ [spec.name]: now }); if (spec.name === "source") draw(); }));
    rgtg.put(root,
      el("fieldset", { id: "examine-models", class: "line" }, el("legend", { text: "reward models" }), ...props.models.map(check), props.models.length ? null : el("span", { class: "quiet", text: "No reward model is installed: train one, or add one on Models." })),
      el("div", { class: "line" },
        field({ name: "source", label: "pairs", choices: props.sources, help: "Pairs that the models were not trained on say most" }),
        value.source === "typed" ? null : field({ name: "limit", label: "at most", min: 1, max: props.most.pairs, step: 1, help: "How many pairs or prompts are read; more take longer and narrow the intervals" }),
        value.source === "choices" ? null : field({ name: "judge", label: "judge", choices: props.judges, help: "The reward model by which the verdict on a pair turns midway; it is examined, too" }),
        value.source === "choices" ? null : field({ name: "beta", label: "β", min: 0.001, max: props.most.beta, help: "Weight at which rewards are compared with the soft value of the next tokens" })),
      pairs());
    if (focus) document.getElementById(focus)?.focus();
  }
  function fill() {
    if (props.value === JSON.stringify(value)) return;
    value = JSON.parse(props.value || "{}");
    draw();
  }
  document.title = "rgtg · Examine";
  watch("value", fill);
  watch(["models", "sources", "judges"], draw);
  fill();
};

// The figures beside accuracy: a row a figure, a column a model. Event `save_examination` {examination, form}.
rgtg.examineTable = (element, props, trigger, watch, save) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let form = "json";
  function draw() {
    const value = JSON.parse(props.value || "{}");
    if (!value.groups) return void root.replaceChildren();
    const span = String(value.models.length + 1);
    const table = el("table", { class: "figures", id: "examine-figures" },
      el("thead", {}, el("tr", {}, el("td", {}), ...value.models.map((text) => el("th", { scope: "col", text })))),
      ...value.groups.map((group) => el("tbody", {}, el("tr", { class: "group" }, el("th", { scope: "rowgroup", colspan: span, title: group.help, text: group.title })),
        ...group.rows.map(([label, ...cells]) => el("tr", {}, el("th", { scope: "row", text: label }), ...cells.map((text) => el("td", { text })))))));
    const picker = rgtg.field({ label: "What is downloaded", choices: value.forms }, form, "examine-format", (now) => { form = now; });
    rgtg.put(root, rgtg.scrolling("Figures of the reward models", table),
      el("div", { class: "save" }, picker, el("button", { type: "button", id: "examine-save", text: "Download", onclick: () => trigger(save, { examination: value.id, form }) })));
  }
  watch("value", draw);
  draw();
};

// One pair: which, by which model, and what colours its tokens. Events `read_pair` and `read_next`; a value with `following` adds to the one before.
rgtg.pairBar = (element, props, trigger, watch, readPair, readNext) => {
  const { el, signed } = rgtg;
  const root = element.querySelector(".drawn"), SIDES = { A: "chosen", B: "rejected" };
  let value = {}, view = "sibling gap", following = null;
  const ask = (changes) => { following = null; trigger(readPair, { examination: value.id, model: value.model, pair: value.pair, ...changes }); };
  function colour() {
    if (!value.views) return;
    if (!(view in value.views)) view = Object.keys(value.views)[0];
    rgtg.colour.channel = view === "attention" ? "share" : "reward";
    rgtg.colour.measure = view;
    rgtg.paintAll();
  }
  function list(title, tokens) {
    return el("div", { class: "next" }, el("b", { text: title }), ...tokens.map(([text, reward]) => el("span", { class: "next-token", title: `reward ${signed(reward)}` }, el("code", { text: rgtg.shown(text) || "⟨end⟩" }), ` ${signed(reward)}`)));
  }
  function draw() {
    if (!value.id) return void root.replaceChildren();
    const focus = root.contains(document.activeElement) ? document.activeElement.id : "";
    const pick = (spec, now, changed) => rgtg.labelled(spec, rgtg.field(spec, now, spec.id, changed));
    const views = Object.keys(value.views ?? {});
    const head = el("div", { class: "line" }, el("h2", { text: "One pair, token by token" }),
      pick({ id: "pair-number", label: "pair", choices: value.pairs.map((label, i) => [i, label]) }, value.pair, (now) => ask({ pair: Number(now) })),
      pick({ id: "pair-model", label: "by", choices: value.models }, value.model, (now) => ask({ model: now })),
      views.length ? pick({ id: "pair-channel", label: "colour", choices: views }, view, (now) => { view = now; colour(); draw(); }) : null);
    const about = value.wrong ? el("p", { class: "wrong", text: value.wrong }) : el("p", { class: "help", text: `${view}: ${value.views?.[view] ?? ""}. ${view === "attention" ? "Full" : "Blue is positive, red negative; full"} colour at ${rgtg.plain(rgtg.half({}), 2)}.` });
    const next = following ? el("div", { id: "pair-next" }, el("p", { class: "help", text: `In place of token ${following.position + 1} of the ${following.side} answer, this model rewards` }), list("most", following.best), list("least", following.worst))
      : value.next ? el("p", { class: "help", id: "pair-next", text: "Click a token: the best and worst tokens in its place." }) : null;
    rgtg.put(root, head, about, next);
    if (focus) document.getElementById(focus)?.focus();
  }
  function fill() {
    const now = JSON.parse(props.value || "{}");
    if (now.following) following = now.id === value.id ? now.following : null;
    else { value = now; following = null; }
    colour();
    draw();
  }
  rgtg.hear(element, "select", ({ column, index }) => value.next && trigger(readNext, { examination: value.id, model: value.model, pair: value.pair, side: SIDES[column], position: index }));
  rgtg.hear(element, "scale", () => draw());
  watch("value", fill);
  fill();
};
