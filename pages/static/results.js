// The Results page: the board, its drawings, and reward models against people. The value is JSON (pages/results.py).

// A drawing as a node of SVG: [tag, attributes, children] (rgtg/workbench/report/drawings.py).
rgtg.svg = ([tag, attributes, children]) => {
  const { namespaceURI } = new DOMParser().parseFromString("<svg></svg>", "text/html").body.firstChild, node = document.createElementNS(namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.map((child) => (typeof child === "string" ? child : rgtg.svg(child))));
  return node;
};

// A file that comes from the server.
rgtg.downloads = (element, props, watch) => {
  let last = "";
  watch("value", () => {
    const file = JSON.parse(props.value || "{}");
    if (!file.name || file.at === last) return;
    last = file.at;
    rgtg.download(file.name, file.text, file.type);
  });
};

rgtg.results = (element, props, trigger, watch, choose, save, saveComparison) => {
  const { el, signed } = rgtg;
  const root = element.querySelector(".drawn");
  const FIRST = 8; // disagreements; a button shows all of them
  let value = {}, open = 0, all = false;
  document.title = "rgtg · Results";

  // ---- what is ranked, and what is saved ----------------------------------------------------------
  const shown = () => ({ by: value.by, control_length: value.control_length });
  function controls() {
    const by = rgtg.field({ label: "What is ranked", choices: value.choices }, value.by, "results-by", (now) => trigger(choose, { ...shown(), by: now }));
    const equal = el("input", { type: "checkbox", id: "results-length", onchange: (event) => trigger(choose, { ...shown(), control_length: event.target.checked }) });
    equal.checked = value.control_length;
    const format = rgtg.field({ label: "Form of the file", choices: value.formats }, "csv", "results-format", () => tables());
    const part = rgtg.field({ label: "Table in the file", choices: value.tables }, "board", "results-table", () => {});
    const tables = () => { part.disabled = ["json", "html"].includes(format.value); }; // these have all of them
    return el("div", { class: "line" },
      el("label", { class: "field" }, el("span", { text: "rank by" }), by),
      el("label", { class: "field check", title: "Strengths as if all answers were equally long" }, el("span", { text: "at equal length" }), equal),
      value.votes > 0 && el("span", { class: "save" }, format, part, el("button", { type: "button", id: "results-save", text: "Save", onclick: () => trigger(save, { ...shown(), format: format.value, table: part.value }) })));
  }

  // ---- drawings -----------------------------------------------------------------------------------
  function figure(title, drawing, name, note) {
    const picture = rgtg.svg(drawing);
    const button = el("button", { type: "button", class: "small", title: "Download as PNG", "aria-label": `${title}: download as PNG`, text: "PNG", onclick: () => png(picture, name) });
    return el("figure", {}, el("figcaption", {}, el("h3", { text: title }), button), rgtg.scrolling(title, picture), note && el("p", { class: "help", text: note }));
  }
  async function png(picture, name) {
    const style = getComputedStyle(document.body), paper = style.getPropertyValue("--paper").trim() || "#fff", copy = picture.cloneNode(true);
    copy.setAttribute("style", `color:${style.getPropertyValue("--ink").trim() || "#000"}`);
    const image = new Image(), { width, height } = picture.viewBox.baseVal, canvas = el("canvas", { width: 2 * width, height: 2 * height }), context = canvas.getContext("2d");
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(copy));
    await image.decode();
    context.fillStyle = paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => rgtg.download(`${name}.png`, blob, "image/png"));
  }

  // ---- reward models ------------------------------------------------------------------------------
  function models() {
    if (value.unscored) return el("p", { class: "quiet", text: value.unscored });
    if (!value.models) return null;
    const [head, rows] = value.models, many = rows.length > 1;
    const pick = (i) => { open = i; all = false; draw(); root.querySelector(`[data-place="${i}"]`)?.focus(); };
    const cell = (row, i) => (text, c) => (c === 0 && many ? el("td", {}, el("button", { type: "button", class: "reward-model inline", "data-place": i, "aria-pressed": String(i === open), onclick: () => pick(i), text })) : el("td", { text }));
    const table = el("table", { class: "figures", id: "reward-models" }, el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { text, scope: "col" })))),
      el("tbody", {}, ...rows.map((row, i) => el("tr", { class: i === open && many ? "open" : null }, ...row.map(cell(row, i))))));
    return el("div", {}, rgtg.scrolling("Reward models", table), one(value.against[open]));
  }
  function one(against) {
    return el("div", { id: "against" }, many(against), el("div", { class: "drawings" },
      figure("Calibration", against.calibration, "calibration", "The share of votes for the answer with the higher reward, by the difference in reward. On the dashed curve a reward is the log-odds of a preference."),
      figure("Accuracy by prefix length", against.lengths, "accuracy-by-length", "Branch votes compare two continuations of one prefix; below the token where they part they are not compared.")),
      disagreements(against));
  }
  const many = (against) => el("h3", { class: "model-name", text: against.name + (against.unscored ? ` · ${against.unscored.toLocaleString("en")} pairs without a reward at the end` : "") });
  function disagreements({ disagreements: list }) {
    if (list === null) return el("p", { class: "quiet", text: "On a public server prompts and answers are shown to those who wrote them." });
    if (!list.length) return el("p", { class: "quiet", text: "No vote is against the reward." });
    const answer = (text, by, reward, label) => el("td", {}, el("span", { class: "answer", dir: "auto", text }), el("small", { text: `${label} · ${by} · reward ${signed(reward)}` }));
    const row = (line) => el("tr", { class: "disagreement" },
      el("td", {}, el("b", { text: line.gap.toFixed(2) }), line.num_votes > 1 && el("small", { text: `${line.num_votes} votes` })),
      el("td", {}, el("span", { class: "answer", dir: "auto", text: line.prompt })),
      answer(line.chosen, line.chosen_by, line.chosen_reward, "people"), answer(line.rejected, line.rejected_by, line.rejected_reward, "reward model"),
      el("td", {}, el("a", { class: "link", href: "./?comparison=" + encodeURIComponent(line.comparison_id), text: "Open", "aria-label": `Open comparison ${line.comparison_id}` }),
        el("button", { type: "button", class: "small", text: "HTML", title: "Save this comparison as a file that opens without the app", "aria-label": `Save comparison ${line.comparison_id} as HTML`, onclick: () => trigger(saveComparison, { comparison: line.comparison_id }) })));
    return el("div", { class: "disagreements" }, el("h3", { text: "Votes against the reward, the largest difference first" }),
      rgtg.scrolling("Votes against the reward", el("table", { class: "figures texts" }, el("thead", {}, el("tr", {}, ...["difference", "prompt", "preferred by people", "preferred by the reward model", "comparison"].map((text) => el("th", { text, scope: "col" })))), el("tbody", {}, ...list.slice(0, all ? list.length : FIRST).map(row)))),
      !all && list.length > FIRST && el("button", { type: "button", class: "small", id: "all-disagreements", text: `Show all ${list.length}`, onclick: () => { all = true; draw(); } }));
  }

  function draw() {
    value = JSON.parse(props.value || "{}");
    if (!value.choices) return;
    open = Math.min(open, Math.max(0, (value.against?.length ?? 1) - 1));
    const focused = root.contains(document.activeElement) && document.activeElement.id;
    const nobody = value.nobody && el("p", { class: "nobody" }, value.nobody + " ", el("a", { class: "link", href: "./", text: "Compare" }));
    const facts = value.facts && el("ul", { id: "results-facts" }, ...value.facts.map((text) => el("li", { text })));
    const board = value.board && el("section", { "aria-labelledby": "leaderboard-head" }, el("h2", { id: "leaderboard-head", text: "Leaderboard" }),
      rgtg.scrolling("Leaderboard", rgtg.table(...value.board, "leaderboard")), facts);
    const drawn = value.forest && el("div", { class: "figures-side" }, figure("Strengths with 95 % intervals", value.forest, "strengths"), figure("Share won, row against column", value.wins, "wins", "Ties count half; n is the number of battles."));
    const against = value.votes > 0 && el("section", { id: "against-people", "aria-labelledby": "against-head" }, el("h2", { id: "against-head", text: "Reward models against people" }), models());
    rgtg.put(root, controls(), nobody || null, board || drawn ? el("div", { class: "board-grid" }, ...[board, drawn].filter(Boolean)) : facts ?? null, against || null);
    if (focused) document.getElementById(focused)?.focus();
  }
  watch("value", draw);
  draw();
};
