// Import and export on the Data page. A file is read first and its counts shown; a second press stores it. The value is JSON (pages/exchanging.py).
rgtg.exchange = (element, props, trigger, watch, upload, lookIn, takeIn, writeOut) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const offer = JSON.parse(props.value || "{}").offer ?? {};
  if (offer.shut) return;
  let path = "";

  // ---- import
  const picker = el("input", { type: "file", hidden: true, id: "import-file", "aria-label": "File of preferences", accept: ".jsonl,.ndjson,.json,.csv,.tsv,.parquet,.arrow,.feather,.gz,.zst" });
  const place = el("input", { type: "text", id: "import-path", "aria-label": "File on this machine", placeholder: "a file on this machine", autocomplete: "off", spellcheck: "false", dir: "auto" });
  const columns = el("input", { type: "text", id: "import-columns", "aria-label": "Columns", placeholder: "prompt=…,a=…,b=…,winner=…", title: "Which column is which, where it is not plain: prompt=…, a=…, b=…, winner=…, rater=…", autocomplete: "off", spellcheck: "false" });
  const ties = rgtg.field({ label: "Equal scores", choices: [["", "ask"], ["keep", "are ties"], ["drop", "are left out"]] }, "", "import-ties", () => look());
  const note = el("p", { class: "quiet", role: "status", id: "import-note" }), facts = el("div", {});
  const store = el("button", { type: "button", id: "import-store", hidden: true, text: "Import", onclick: () => send(takeIn, "importing …") });
  const open = el("div", { class: "task-line", hidden: true });
  function send(event, words) {
    if (!path) return void place.focus();
    note.textContent = words;
    store.disabled = true;
    trigger(event, { file: path, columns: columns.value, ties: ties.value });
  }
  const look = () => send(lookIn, "reading …");
  picker.addEventListener("change", async () => {
    const [file] = picker.files;
    if (!file) return;
    note.textContent = `uploading ${file.name} …`;
    try { ({ path } = await upload(file)); place.value = ""; place.placeholder = file.name; look(); }
    catch { note.textContent = "It could not be uploaded: it may be too large. Enter its path instead."; }
    picker.value = "";
  });
  place.addEventListener("change", () => { path = place.value.trim(); if (path) look(); });
  columns.addEventListener("change", look);
  open.append(rgtg.labelled({ label: "columns" }, columns), rgtg.labelled({ label: "equal scores" }, ties));
  const importing = el("details", { id: "import" }, el("summary", { text: "Import …" }),
    el("p", { class: "quiet", text: "Preferences from elsewhere, as JSON, CSV, Parquet or Arrow: exports of rgtg, the layouts of TRL, HH, UltraFeedback, arenas, rankings, several raters a row. The file is read first; nothing is stored before you press Import." }),
    el("div", { class: "task-line" }, el("button", { type: "button", id: "import-upload", text: "Upload …", onclick: () => picker.click() }), picker, place), open, note, facts, store);

  // ---- export
  const box = (name, group, checked, help) => { const input = el("input", { type: "checkbox", name: group, value: name, "aria-label": name, title: help }); input.checked = checked; return input; };
  const formats = (offer.formats ?? []).map(([key, about]) => [key, about, box(key, "export-formats", key === "preference", about)]);
  const types = (offer.types ?? []).map((key) => [key, box(key, "export-types", key === ".jsonl")]);
  const exported = el("div", { role: "status" });
  const chosen = (boxes) => boxes.filter((one) => one.at(-1).checked).map(([key]) => key);
  const write = el("button", { type: "button", id: "export-write", text: "Download", onclick: () => { exported.textContent = "writing …"; trigger(writeOut, { formats: chosen(formats), types: chosen(types) }); } });
  const exporting = el("details", { id: "export-panel" }, el("summary", { text: "Export …" }),
    el("div", { class: "export-formats", id: "export-formats" }, ...formats.map(([key, about, input]) => el("label", {}, input, el("b", { text: key }), el("span", { class: "quiet", text: about })))),
    el("div", { class: "task-line", id: "export-types" }, ...types.map(([key, input]) => el("label", { class: "field check" }, el("span", { text: key }), input)), write), exported);
  root.append(importing, exporting);

  rgtg.hear(element, "error", ({ field }) => { if (String(field).startsWith("import")) { note.textContent = ""; facts.replaceChildren(); store.hidden = true; } if (String(field).startsWith("export")) exported.textContent = ""; });
  function draw() {
    const value = JSON.parse(props.value || "{}");
    if (value.exported) return void exported.replaceChildren(rgtg.facts(value.exported));
    if (value.open) {
      open.hidden = false;
      note.textContent = value.words + (value.open === "ties" ? "" : ` ${value.do.replace("--columns ", "")}`);
      facts.replaceChildren();
      store.hidden = true;
      return void document.getElementById(value.open === "ties" ? "import-ties" : "import-columns").focus();
    }
    if (!value.facts) return;
    note.textContent = value.words ?? "This is what the file holds. Nothing is stored yet.";
    facts.replaceChildren(rgtg.facts(value.facts));
    store.hidden = value.done;
    store.disabled = false;
    if (value.done) rgtg.tell("imported");
  }
  watch("value", draw);
};
