// The Models page: the table of models, one model's card, and the form that adds a model. Values are JSON.
rgtg.modelList = (element, props, trigger, watch, openModel) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  function draw() {
    const list = JSON.parse(props.value || "{}"), groups = list.groups ?? [];
    const row = (model) => {
      const button = el("button", { type: "button", class: "model", "data-model": model.name, "aria-pressed": String(model.name === list.open), text: model.name }), mark = model.mark && el("span", { class: "mark", text: model.mark });
      return el("tr", { class: model.name === list.open ? "open" : "", onclick: () => trigger(openModel, { model: model.name }) }, el("th", { scope: "row" }, button, mark), ...model.cells.map((text, i) => el("td", { text, title: text, "data-cell": list.head[i + 1] })));
    };
    const focus = root.contains(document.activeElement) ? document.activeElement.dataset.model : null;
    const body = groups.filter((g) => g.models.length).map((g) => el("tbody", {}, el("tr", { class: "group" }, el("th", { colspan: list.head.length, scope: "rowgroup", text: g.title })), ...g.models.map(row)));
    rgtg.put(root, el("table", { class: "models" }, el("thead", {}, el("tr", {}, ...(list.head ?? []).map((text) => el("th", { text, scope: "col", "data-cell": text })))), ...body));
    if (focus) root.querySelector(`[data-model="${CSS.escape(focus)}"]`)?.focus();
  }
  document.title = "rgtg · Models";
  watch("value", draw);
  draw();
};

// One model's card. Event `delete_model` {model, sure}.
rgtg.modelCard = (element, props, trigger, watch, openModel, deleteModel) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  function draw() {
    const card = JSON.parse(props.value || "{}");
    if (!card.name) return void rgtg.put(root, el("p", { class: "quiet", text: card.words || "Choose a model to see its card." }));
    const links = (label, names) => (names?.length ? [el("dt", { text: label }), el("dd", {}, ...names.flatMap((name, i) => [i ? ", " : "", el("button", { type: "button", class: "inline", "data-model": name, text: name, onclick: () => trigger(openModel, { model: name }) })]))] : []);
    const ask = el("span", { class: "ask" });
    const first = () => {
      rgtg.put(ask, el("span", { text: `Delete “${card.name}” permanently?` }),
        el("button", { type: "button", id: "delete-sure", text: "Delete", onclick: (event) => { rgtg.once(event.target); trigger(deleteModel, { model: card.name, sure: true }); } }),
        el("button", { type: "button", id: "delete-not", text: "Cancel", onclick: rest }));
      ask.querySelector("#delete-not").focus();
    };
    const rest = () => rgtg.put(ask, el("button", { type: "button", id: "delete-model", title: "Delete this model and its files", text: "Delete …", onclick: first }));
    if (card.deletable) rest();
    if (card.added) rgtg.put(ask, el("button", { type: "button", id: "take-off", title: "Remove this model from the list; its folder is not changed", text: "Remove from list", onclick: (event) => { rgtg.once(event.target); trigger(deleteModel, { model: card.name }); } }));
    const examine = card.examinable ? el("a", { class: "link", id: "model-examine", href: "./examine?model=" + encodeURIComponent(card.name), title: "Accuracy by length of the prefix, calibration, biases and tricks on pairs", text: "Examine" }) : null;
    const facts = rgtg.facts(card.facts ?? [], "card-facts");
    facts.append(...links("parent", card.parents), ...links("children", card.children));
    rgtg.put(root, el("div", { class: "job-head" }, el("h2", { text: card.name }), el("span", { class: "quiet", text: card.kind }), examine, card.deletable || card.added ? ask : null), facts,
      card.training?.length ? el("details", {}, el("summary", { text: "Training configuration" }), rgtg.facts(card.training)) : null);
  }
  watch("value", draw);
  draw();
};

// A folder or hub id to list. Event `add_model` {place, kind}.
rgtg.addModel = (element, props, trigger, watch, addModel) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const place = el("input", { type: "text", id: "add-place", "aria-label": "Folder on this machine, or owner/name on the Hugging Face Hub", placeholder: "folder, or owner/name on the Hugging Face Hub", autocomplete: "off", spellcheck: "false" });
  const kind = rgtg.field({ label: "Kind of model", choices: [["reward_model", "reward model"], ["base_lm", "base LM"]] }, "reward_model", "add-kind", () => {});
  const note = el("span", { class: "quiet", role: "status", id: "add-note" });
  const send = () => {
    if (!place.value.trim()) return void place.focus();
    add.disabled = true;
    note.textContent = "checking that it loads …";
    trigger(addModel, { place: place.value.trim(), kind: kind.value });
  };
  const add = el("button", { type: "button", id: "add-model", text: "Add", onclick: send });
  place.addEventListener("keydown", (event) => event.key === "Enter" && send());
  root.append(el("span", { class: "label", text: "Add a model" }), place, rgtg.labelled({ label: "as" }, kind), add, note);
  rgtg.hear(element, "error", ({ field }) => {
    if (field !== "place") return;
    add.disabled = false;
    note.textContent = "";
  });
  function draw() {
    const answer = JSON.parse(props.value || "{}");
    add.disabled = false;
    note.textContent = answer.note || "";
    if (answer.done) place.value = "";
  }
  watch("value", draw);
};
