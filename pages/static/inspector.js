// Why this token: a sentence, the candidates with their arithmetic, the same position in the other columns.
rgtg.inspector = (element, trigger) => {
  const { el, signed, plain, percent, shown } = rgtg;
  const root = element.querySelector(".drawn");
  const quoted = (text) => "“" + (shown(text) || "…") + "”";
  const TERM_HELP = { "log p": "log probability under the base LM, nats" };
  let now = null;

  function empty() {
    if (now && root.contains(document.activeElement)) rgtg.views[now.column]?.focus(now.index);
    now = null;
    const hint = "Click a token to see the candidates at that position and their scores.";
    root.replaceChildren(el("div", { class: "panel-head" }, el("h2", { text: "Why this token" })), el("p", { class: "hint", id: "inspector-sentence", text: hint }));
  }

  // ---- the sentence -----------------------------------------------------------------------------
  function sentence(head, step, index) {
    const word = quoted(step.t || step.x || "");
    const [before, after] = step.k ?? [null, null];
    const base = `base ${percent(Math.exp(step.lp))}`;
    if (head.branch === index) return `${word} was chosen by you: the branch from column ${head.parent} starts here. Base LM: rank ${before}, ${percent(Math.exp(step.lp))}.`;
    if (head.branch !== undefined && index < head.branch) return `${word} is copied from column ${head.parent}; the branch starts at token ${head.branch + 1}.`;
    if (index < head.chosen) return `${word} was chosen by you: rank ${before} under the base LM, ${percent(Math.exp(step.lp))}.`;
    if (head.chosen !== undefined) return `${word} is a suggestion, ${base}: choose a candidate with a click or its digit; Backspace takes the last choice back.`;
    if (!head.guides.length) {
      if (before === 1) return `${word} is the base LM's top token, ${percent(Math.exp(step.lp))}.`;
      return `${word} was sampled: rank ${before} under the base LM, ${percent(Math.exp(step.lp))}.`;
    }
    const score = (number) => (number === null || number === undefined ? "not scored" : signed(number));
    const rewards = head.guides?.length > 1 ? `rewards ${head.guides.map(([name]) => `${score(step.rs?.[name])} by ${name}`).join(", ")}` : `reward ${score(step.r)} by ${head.guide}`;
    const facts = head.guide ? `${base}, ${rewards}` : base;
    const judged = step.c?.some((row) => row[3].length);
    if (!judged) return `${word}: rank ${before} under the base LM, ${facts}. ${head.title} samples tokens from the base LM and scores longer segments.`;
    const drawn = after > 1 && head.params?.pick !== "greedy" ? ` It was sampled with probability ${percent(step.g)}.` : "";
    const moved = before === after ? `Guidance kept ${word} at rank ${before}` : `Guidance moved ${word} from rank ${before} to rank ${after}`;
    return `${moved}: ${facts}${sum(head, step)}.${drawn}`;
  }
  // "; log p −2.10 + β·r +3.00 = +0.90", the method's own terms of the token that was taken
  function sum(head, step) {
    const taken = step.c.find((row) => row[0] === step.id), terms = taken?.[8];
    if (!terms || terms.length < 2) return "";
    return "; " + head.terms.map((name, i) => `${name} ${signed(terms[i])}`).join(" + ") + ` = ${signed(taken[4])}`;
  }

  // ---- the table --------------------------------------------------------------------------------
  function table(head, step, index) {
    const guides = step.c.some((row) => row[3].length) ? head.guides : [], guided = guides.length > 0;
    const terms = step.c.some((row) => row[8]) ? head.terms : [];
    const columns = [
      ["candidate", (row) => candidate(row, step)],
      ["base", (row) => share(Math.exp(row[2])), "probability under the base LM"],
      ...guides.map(([name, weight], i) => [
        guides.length > 1 ? name : "reward", (row) => plain(row[3][i], 3),
        `reward of the answer so far with this token, by ${name}` + (weight === 1 ? "" : `; its weight is ${weight}`), weight === 1 ? "" : `×${weight}`,
      ]),
      ...terms.map((name, i) => [name, (row) => plain(row[8]?.[i], 3), TERM_HELP[name]]),
      ["score", (row) => plain(row[4], 3), terms.length ? "score = " + terms.join(" + ") : "the value by which a token is selected"],
      ["rank", (row) => (row[5] === row[6] ? String(row[6]) : `${row[5]} → ${row[6]}`), "before guidance → after"],
      guided && ["after", (row) => share(row[7]), "probability among the candidates after guidance"],
      ["branch", (row, place) => (head.chosen === undefined ? branch(row, head, index) : choice(row, place))],
    ].filter(Boolean);
    const choose = (row) => (head.chosen === undefined ? null : () => rgtg.choose(head.column, index, row[0]));
    const rows = step.c.map((row, place) =>
      el("tr", { class: row[0] === step.id ? "taken" : null, "data-token": row[0], onclick: choose(row) }, ...columns.map(([title, cell]) => el("td", { "data-column": title }, cell(row, place)))),
    );
    const buttons = rows.map((row) => row.querySelector("button")).filter(Boolean);
    buttons.forEach((button, i) => (button.tabIndex = i ? -1 : 0)); // one Tab stop; the arrows move
    const heads = columns.map(([title, , help, weight]) => el("th", { scope: "col", title: help, "data-column": title }, title, weight && el("small", { text: " " + weight })));
    const candidates = el("table", { class: "candidates", onkeydown: (event) => walk(event, buttons, index) }, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows));
    return step.n ? [candidates, el("p", { class: "hint", id: "inspector-left-out", text: `${step.c.length} of ${step.c.length + step.n} candidates: the selected token, the base LM's top token and the highest scores.` })] : [candidates];
  }
  function walk(event, buttons, index) {
    const at = buttons.indexOf(event.target), to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
    const beside = { ArrowLeft: index - 1, ArrowRight: index + 1 }[event.key];
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey || (to === undefined && beside === undefined)) return;
    event.preventDefault();
    if (to !== undefined) return void move(buttons, Math.max(0, Math.min(buttons.length - 1, to)));
    rgtg.select(now.column, Math.max(0, Math.min(rgtg.views[now.column].steps.length - 1, beside)), "inspector");
    rgtg.toCandidates();
  }
  function move(buttons, to) {
    buttons.forEach((button, i) => (button.tabIndex = i === to ? 0 : -1));
    buttons[to].focus();
  }
  // from a token to its candidates; whether there was something to go to
  rgtg.toCandidates = () => {
    const to = root.querySelector(".candidates button") ?? root.querySelector(".table[tabindex]");
    to?.focus();
    return !!to;
  };

  // ---- rejected segments, dropped particles -----------------------------------------------------------------------------
  // a row: text, reward at its end, the threshold that it missed, its share among the particles
  const TRIED = [
    ["reward", (value) => plain(value, 2), "reward of the answer at the end of the segment"],
    ["threshold", (value) => plain(value, 2), "reward required for acceptance"],
    ["share", percent, "normalized weight among the particles"],
  ];
  function tried({ rows, more }) {
    const has = TRIED.map((_, i) => rows.some((row) => row[i + 1] !== null));
    const what = has[1] ? "Rejected here" : has[2] ? "Dropped at resampling" : "Sampled but not selected";
    const columns = TRIED.map((column, i) => [...column, i + 1]).filter((_, i) => has[i]);
    const lines = rows.map((row) => el("tr", {},
      el("td", {}, el("span", { class: "piece", dir: "auto", title: row[0], text: shown(row[0]) || "…" })),
      ...columns.map(([title, print, , i]) => el("td", { "data-tried": title, text: print(row[i]) }))));
    const heads = [el("th", { scope: "col", text: what }), ...columns.map(([title, , help]) => el("th", { scope: "col", title: help, text: title }))];
    return el("div", { id: "inspector-tried" },
      el("table", { class: "tried" }, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...lines)),
      more > 0 && el("div", { class: "hint", text: `and ${more} more` }));
  }
  function candidate(row, step) {
    const marks = [row[0] === step.id && ["●", "selected"], row[5] === 1 && ["○", "the base LM's top token"], row[6] === 1 && ["▲", "highest score"]].filter(Boolean);
    const cell = el("span", { class: "cand" }, el("span", { class: "word", dir: "auto", title: `${row[1]} · token id ${row[0]}`, text: shown(row[1]) || "…" }));
    for (const [mark, title] of marks) cell.append(el("span", { class: "mark", title, role: "img", "aria-label": title, text: mark }));
    return cell;
  }
  function share(p) {
    const cell = el("span", { class: "share", text: percent(p) });
    cell.style.setProperty("--share", Math.max(0, Math.min(1, p ?? 0)));
    return cell;
  }
  // the column that has this road already: the answer itself, a branch that was made here, or what it branched off
  function twin(row, head, index) {
    const ids = (view) => JSON.stringify([view.head.method, view.head.params, view.head.guides, view.head.seed, view.steps.slice(0, index).map((step) => step.id)]);
    const own = rgtg.views[head.column], wanted = ids(own);
    const has = (view) => view.head && !view.head.blind && view.steps[index]?.id === row[0] && ids(view) === wanted;
    return (has(own) ? own : Object.values(rgtg.views).find(has))?.column;
  }
  // the click on the row chooses
  const choice = (row, place) => el("button", { class: "branch choose", type: "button", "aria-label": `Choose ${shown(row[1]) || "…"}` }, place < 10 && el("kbd", { text: String((place + 1) % 10) }), "Choose");
  function branch(row, head, index) {
    const word = shown(row[1]) || "…", there = twin(row, head, index);
    if (there === head.column) return el("span", { class: "hint", text: "selected" });
    if (there) return el("button", { class: "branch there", type: "button", title: `Column ${there} continues with ${word}`, onclick: () => rgtg.select(there, index, "inspector"), text: `in ${there}` });
    const name = `Branch here with ${word}`;
    const go = () => trigger("branch", { comparison: head.comparison, trace: head.trace, index, token_id: row[0] });
    return el("button", { class: "branch", type: "button", "aria-label": name, title: name + ": a new column continues from this token", onclick: go, text: "Branch here" });
  }

  function peers({ column, index }) {
    const others = Object.values(rgtg.views).filter((view) => view.column !== column && view.steps[index]);
    if (!others.length) return null;
    const own = rgtg.measure() === rgtg.OWN;
    const line = el("div", { class: "peers" }, own ? "Same position, reward by each column's own guide: " : `Same position, reward by ${rgtg.measure()}: `);
    for (const view of others.sort((a, b) => a.column.localeCompare(b.column))) {
      const step = view.steps[index], value = rgtg.reward(view, index);
      const words = `${view.column} ${quoted(step.t || step.x || "")} ${value === null ? "" : signed(value)}`, by = `reward by ${rgtg.measureOf(view)}`;
      line.append(el("button", { type: "button", class: "peer-link", title: by, "aria-label": `${words}, ${by}`, onclick: () => rgtg.select(view.column, index, "inspector"), text: words }));
    }
    return line;
  }

  function toTried() {
    const box = root.querySelector(".table"); // it alone scrolls, the page stays where it is
    box.scrollTop += root.querySelector("#inspector-tried").getBoundingClientRect().top - box.getBoundingClientRect().top;
  }

  function draw(selection) {
    now = selection;
    const { head, step, index, column } = selection;
    const go = (to) => rgtg.select(column, to, "inspector");
    const steps = rgtg.views[column].steps;
    const focusedId = document.activeElement?.closest?.("#inspector") ? document.activeElement.id : "";
    root.replaceChildren(
      el("div", { class: "panel-head" },
        el("h2", { text: "Why this token" }),
        el("span", { class: "where", text: `${column} · token ${index + 1} of ${steps.length}` }),
        step.y && el("button", { id: "inspector-to-tried", type: "button", class: "small", onclick: toTried, text: `${step.y.rows.length + step.y.more} rejected ↓` }),
        el("span", { class: "legend-line", text: "● selected   ○ base LM's top token   ▲ highest score" }),
        el("button", { id: "inspector-previous", type: "button", class: "small", "aria-label": "Previous token", disabled: index === 0, onclick: () => go(index - 1), text: "‹" }),
        el("button", { id: "inspector-next", type: "button", class: "small", "aria-label": "Next token", disabled: index + 1 >= steps.length, onclick: () => go(index + 1), text: "›" }),
        el("button", { id: "inspector-close", type: "button", class: "small", "aria-label": "Close", onclick: rgtg.close, text: "×" }),
      ),
      el("p", { id: "inspector-sentence", text: sentence(head, step, index) }),
      el("div", { class: "table", tabindex: step.y ? "0" : null, role: "region", "aria-label": "Candidates" }, ...(step.c?.length ? table(head, step, index) : [el("p", { class: "hint", text: "No candidates were stored for this token." })]), step.y && tried(step.y)),
      peers(selection) ?? "",
    );
    if (focusedId) document.getElementById(focusedId)?.focus();
  }
  rgtg.hear(element, "select", draw);
  rgtg.hear(element, "close", empty);
  rgtg.hear(element, "scale", () => now && rgtg.views[now.column]?.steps[now.index] && root.querySelector(".peers")?.replaceWith(peers(now) ?? ""));
  empty();
};

// The reward curve is Gradio's Plotly node: each new one gets its click once, and the open token is marked on it.
rgtg.curveBridge = (id) => {
  function attach() {
    const plot = document.querySelector(`#${id} .js-plotly-plot`);
    if (!plot || plot.rgtg || !plot.on) return;
    plot.rgtg = true;
    stale(false);
    plot.on("plotly_click", (event) => {
      const point = event.points?.[0];
      if (point?.customdata && !rgtg.running()) rgtg.select(String(point.customdata[0]), Number(point.customdata[1]), "curve");
    });
    const now = rgtg.opened();
    if (now) mark(now);
  }
  function mark(now) {
    const plot = document.querySelector(`#${id} .js-plotly-plot`);
    if (!plot || !window.Plotly || !plot.layout) return;
    const line = now && { type: "line", xref: "x", yref: "paper", x0: now.index + 1, x1: now.index + 1, y0: 0, y1: 1, line: { color: "#888", width: 1, dash: "dot" } };
    window.Plotly.relayout(plot, { shapes: line ? [line] : [] });
  }
  // while another answer grows, the curve of the one before steps back
  const stale = (yes) => document.getElementById(id)?.parentElement.classList.toggle("stale", yes);
  document.addEventListener("rgtg:column", (event) => {
    const head = rgtg.views[event.detail.column]?.head;
    if (head && head.branch === undefined) stale(true);
  });
  const start = () => {
    const home = document.getElementById(id);
    if (!home) return setTimeout(start, 200);
    new MutationObserver(attach).observe(home, { childList: true, subtree: true });
    attach();
  };
  start();
  document.addEventListener("rgtg:select", (event) => mark(event.detail));
  document.addEventListener("rgtg:close", () => mark(null));
};
