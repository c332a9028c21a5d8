// The Help page. The value is JSON: chapters with groups of entries, or with terms (pages/help.py).
rgtg.help = (element, props, watch) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  // a text is a list of pieces: words, or [words, address], where a name in the code has the address ""
  const linked = (pieces) => pieces.map((piece) => {
    if (!Array.isArray(piece)) return piece;
    const [text, href] = piece;
    return href ? el("a", { class: "link", href, target: "_blank", rel: "noopener noreferrer", text }) : el("code", { text });
  });
  const here = (id) => location.pathname + location.search + "#" + id; // Gradio sets <base>, so "#id" alone is another page
  const parameters = (list, title) => rgtg.scrolling(`Parameters of ${title}`, el("table", { class: "figures parameters" },
    el("thead", {}, el("tr", {}, ...["parameter", "default", "values", "meaning"].map((text) => el("th", { scope: "col", text })))),
    el("tbody", {}, ...list.map((p) => el("tr", {}, el("th", { scope: "row" }, el("code", { text: p.name })), el("td", { text: p.default }), el("td", { text: p.range }), el("td", { text: p.help }))))));
  const entry = (e, level) => el("article", { id: e.id, tabindex: "-1" },
    el(level, { class: "entry" }, e.title, e.key && el("code", { text: e.key })),
    el("p", {}, ...linked(e.about)),
    el("dl", { class: "facts-list" }, ...e.notes.flatMap(([label, pieces]) => [el("dt", { text: label || "Details" }), el("dd", {}, ...linked(pieces))]),
      ...(e.objective ? [el("dt", { text: "Reward model" }), el("dd", {}, "trained with the objective ", el("a", { class: "link", href: here("objectives-" + e.objective), text: e.objective }))] : [])),
    e.parameters.length > 0 && parameters(e.parameters, e.title));
  const group = (g) => el("div", { class: "group" }, g.title && el("h3", { text: g.title }), g.about && el("p", { class: "quiet", text: g.about }), ...g.entries.map((e) => entry(e, g.title ? "h4" : "h3")));
  const terms = (list) => el("dl", { class: "terms" }, ...list.flatMap(([term, text]) => [el("dt", { text: term }), el("dd", { text })]));
  const chapter = (c) => el("section", { id: c.id, tabindex: "-1", "aria-labelledby": `${c.id}-title` },
    el("h2", { id: `${c.id}-title`, text: c.title }), c.about && el("p", { class: "quiet", text: c.about }), ...(c.groups ?? []).map(group), c.terms && terms(c.terms));
  const contents = (chapters) => el("nav", { class: "contents", "aria-label": "Contents" }, ...chapters.map((c) => el("div", {},
    el("a", { href: here(c.id), text: c.title }),
    c.groups && el("ul", {}, ...c.groups.flatMap((g) => g.entries).map((e) => el("li", {}, el("a", { href: here(e.id), text: e.title })))))));
  // the parts are drawn after the address was read, so the browser has not found the one that it names
  function go() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !root.contains(target)) return;
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  }
  function draw() {
    const { chapters = [] } = JSON.parse(props.value || "{}");
    root.replaceChildren(...(chapters.length ? [contents(chapters), el("div", { class: "chapters" }, ...chapters.filter((c) => !c.below).map(chapter))] : [])); // the others have parts of their own, below
    go();
  }
  document.title = "rgtg · Help";
  watch("value", draw);
  draw();
};
