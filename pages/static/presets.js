// Line-ups: choose one, save the columns as one's own, export it to a file, open it from one. The value is JSON (pages/presets.py).
rgtg.download = (name, content, type) => {
  const link = rgtg.el("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};
rgtg.lineUps = (element, props, trigger, watch) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const NONE = "own columns";
  let value = { line_ups: [] }, downloaded = "";
  const chosen = () => value.line_ups.find((one) => one.key === value.chosen);

  function draw() {
    const open = root.querySelector("details")?.open, focused = document.activeElement?.closest?.("#line-up-bar") && document.activeElement.id;
    value = { line_ups: [], ...JSON.parse(props.value || "{}") };
    if (value.file && value.at !== downloaded) {
      downloaded = value.at;
      rgtg.download(value.file.name, value.file.text, "application/json");
    }
    const choices = [["", NONE], ...value.line_ups.map((one) => [one.key, one.title, one.ships ? "shipped" : "your own", one.about || null])];
    const picker = rgtg.field({ label: "Line-up", choices, help: "A set of methods, side by side" }, value.chosen ?? "", "line-up", (key) => (key ? trigger("choose", { key }) : null));
    const title = el("input", { id: "line-up-title", type: "text", maxlength: "60", "aria-label": "Name of your line-up", placeholder: "name", value: chosen() && !chosen().ships ? chosen().title : null });
    const save = () => trigger("save", { title: title.value });
    title.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); save(); } });
    const file = el("input", { id: "line-up-file", type: "file", accept: ".json,application/json", hidden: true, tabindex: "-1", "aria-label": "File of a line-up" });
    file.addEventListener("change", async () => {
      const [given] = file.files;
      if (given) trigger("take_in", { name: given.name, text: await given.slice(0, 100_000).text() });
      file.value = "";
    });
    const inside = el("div", { class: "popover" },
      chosen()?.about && el("p", { text: chosen().about }),
      props.own && el("div", { class: "field save" }, title, el("button", { id: "line-up-save", type: "button", class: "small", title: "Save the columns as a line-up of your own", onclick: save, text: "Save columns" })),
      el("div", { class: "others" },
        el("button", { id: "line-up-export", type: "button", class: "small", title: "Download the columns as a file", onclick: () => trigger("write_out", { key: value.chosen ?? "" }), text: "Export" }),
        el("button", { id: "line-up-open", type: "button", class: "small", title: "Open a line-up from a file", onclick: () => file.click(), text: "Open file …" }),
        file,
        props.own && chosen() && !chosen().ships && el("button", { id: "line-up-delete", type: "button", class: "small", title: `Delete “${chosen().title}”`, onclick: () => trigger("delete", { key: value.chosen }), text: "Delete" })),
      ...(value.unreadable ?? []).map((why) => el("p", { class: "help", text: why })));
    root.replaceChildren(rgtg.labelled({ label: "line-up" }, picker), el("details", { class: "more", open }, el("summary", { title: "Save, export and open line-ups", "aria-label": "Save, export and open line-ups", text: "⋯" }), inside));
    if (focused) document.getElementById(focused)?.focus();
  }
  watch("value", draw);
  draw();
  document.addEventListener("click", (event) => { for (const open of root.querySelectorAll("details[open]")) if (!open.contains(event.target) && event.target.isConnected) open.open = false; });
};
