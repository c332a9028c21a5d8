// The toy of the Help page: a table of ways to reward prefixes, and their rewards to drag. The value is JSON (pages/theory.py); an answer
// to a drag holds only what changed, with the number of the drag.
rgtg.toy = (element, props, trigger, watch, drag) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const EVERY = 120; // ms between two questions while a slider is dragged
  let fixed = null, sliders = [], number = 0, waiting = null, cells = [], points = [];
  const values = () => sliders.map((slider) => Number(slider.value));
  const show = (slider) => { slider.nextSibling.textContent = rgtg.signed(Number(slider.value)); };

  function ask() {
    waiting ??= setTimeout(() => { waiting = null; trigger(drag, { values: values(), number: ++number }); }, EVERY);
  }
  function choose(row) {
    sliders.forEach((slider, i) => { slider.value = row.values[i]; show(slider); });
    ask();
  }
  function slider(name, value) {
    const input = el("input", { type: "range", id: `toy-${name}`, min: -fixed.max, max: fixed.max, step: "any", value, "aria-label": `Reward of the prefix ${name}` });
    input.addEventListener("input", () => { show(input); ask(); });
    sliders.push(input);
    const field = el("span", { class: "slide" }, el("code", { text: name }), input, el("output", { for: input.id }));
    show(input);
    return field;
  }
  const ofLength = (length) => fixed.names.flatMap((name, i) => (name.length === length ? [slider(name, fixed.rows[0].values[i])] : []));

  function build(update) {
    fixed = update;
    sliders = [];
    const row = (one) => el("tr", {}, el("th", { scope: "row", title: one.about }, el("button", { type: "button", class: "inline", title: one.about, onclick: () => choose(one), text: one.cells[0] })), ...one.cells.slice(1).map((text) => el("td", { text })));
    cells = fixed.now.map((text) => el("td", { text }));
    points = fixed.points.map(([title]) => el("li", {}, el("b", { text: title + " " }), el("span", {})));
    const table = el("table", { class: "figures toy" },
      el("thead", {}, el("tr", {}, ...fixed.head.map((text) => el("th", { scope: "col", text })))),
      el("tbody", {}, ...fixed.rows.map(row), el("tr", { class: "own", id: "toy-now" }, el("th", { scope: "row", text: "Below, as dragged" }), ...cells)));
    root.replaceChildren(el("section", { id: "theory", tabindex: "-1", "aria-labelledby": "theory-title" },
      el("h2", { id: "theory-title", text: fixed.title }), el("p", { class: "quiet", text: fixed.about }), el("ol", {}, ...points),
      rgtg.scrolling("Ways to reward prefixes", table),
      el("p", { class: "quiet" }, "A click on a row takes its rewards. Loss on complete answers: ", el("b", { id: "toy-loss", text: fixed.loss }), ", whatever is dragged."),
      el("h3", { text: "Rewards of prefixes of one token" }), el("div", { class: "slides" }, ...ofLength(1)),
      el("h3", { text: "Of two tokens" }), el("div", { class: "slides" }, ...ofLength(2)),
      el("details", {}, el("summary", { text: "Of three tokens" }), el("div", { class: "slides" }, ...ofLength(3)))));
    if (location.hash === "#theory") root.querySelector("#theory").scrollIntoView();
  }
  function draw() {
    const update = JSON.parse(props.value || "{}");
    if (update.names) build(update);
    if (!fixed || !update.now || (update.number ?? number) < number) return; // a later one is on its way
    cells.forEach((cell, i) => { cell.textContent = update.now[i]; });
    points.forEach((point, i) => { point.lastChild.textContent = update.points[i][1]; });
    root.querySelector("#toy-loss").textContent = update.loss;
    element.dataset.answered = String(update.number ?? 0);
  }
  watch("value", draw);
  draw();
};
