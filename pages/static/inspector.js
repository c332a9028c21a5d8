// Why this token: a sentence, the candidates with their arithmetic, the same step in the other columns.
rgtg.inspector = (element, trigger) => {
  const { el, signed, plain, percent, shown } = rgtg;
  const root = element.querySelector(".drawn");
  const quoted = (text) => "“" + (shown(text) || "…") + "”";
  const TERM_HELP = { "log p": "log probability under the base LM, nats" };
  let now = null;

  function empty() {
    now = null;
    const hint = "Click a token to see what else could have been said.";
    root.replaceChildren(el("div", { class: "panel-head" }, el("h2", { text: "Why this token" })), el("p", { class: "hint", id: "inspector-sentence", text: hint }));
  }

  // ---- the sentence -----------------------------------------------------------------------------
  function sentence(head, step, index) {
    const word = quoted(step.t || step.x || "");
    const [before, after] = step.k ?? [null, null];
    const base = `base ${percent(Math.exp(step.lp))}`;
    if (head.branch === index) return `${word} was put here by hand: the branch from column ${head.parent}. Base LM: rank ${before}, ${percent(Math.exp(step.lp))}.`;
    if (head.branch !== undefined && index < head.branch) return `${word} is copied from column ${head.parent}; the branch comes at token ${head.branch + 1}.`;
    if (!head.guide) {
      if (before === 1) return `${word} is the base LM's first choice, ${percent(Math.exp(step.lp))}.`;
      return `${word} was drawn: the base LM's choice number ${before}, ${percent(Math.exp(step.lp))}.`;
    }
    const facts = `${base}, reward ${step.r === null ? "not scored" : signed(step.r)}`;
    const judged = step.c?.some((row) => row[3].length);
    if (!judged) return `${word}: the base LM's choice number ${before}, ${facts}. ${head.title} draws single tokens from the base LM and judges longer pieces.`;
    const drawn = after > 1 && head.params?.pick !== "greedy" ? ` It was drawn with ${percent(step.g)} after guidance.` : "";
    const moved = before === after ? `Guidance left ${word} at rank ${before}` : `Guidance moved ${word} from rank ${before} to rank ${after}`;
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
      ["base", (row) => share(Math.exp(row[2]))],
      ...guides.map(([name, weight], i) => [
        guides.length > 1 ? name : "reward", (row) => plain(row[3][i], 3),
        `reward of the answer so far with this token, by ${name}` + (weight === 1 ? "" : `; its weight is ${weight}`), weight === 1 ? "" : `×${weight}`,
      ]),
      ...terms.map((name, i) => [name, (row) => plain(row[8]?.[i], 3), TERM_HELP[name]]),
      ["score", (row) => plain(row[4], 3), terms.length ? "score = " + terms.join(" + ") : "what the selection compares"],
      ["rank", (row) => (row[5] === row[6] ? String(row[6]) : `${row[5]} → ${row[6]}`), "before guidance → after"],
      guided && ["after", (row) => share(row[7]), "share among the candidates after guidance"],
      ["", (row) => branch(row, head, index)],
    ].filter(Boolean);
    const rows = step.c.map((row) =>
      el("tr", { class: row[0] === step.id ? "taken" : null, "data-token": row[0] }, ...columns.map(([title, cell]) => el("td", { "data-column": title || "branch" }, cell(row)))),
    );
    const heads = columns.map(([title, , help, weight]) => el("th", { scope: "col", title: help, "data-column": title || "branch" }, title || el("span", { class: "unseen", text: "branch" }), weight && el("small", { text: " " + weight })));
    return el("table", { class: "candidates" }, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows));
  }

  // ---- what was tried -----------------------------------------------------------------------------
  // a row: text, reward as it ended, the threshold that it missed, its share among the rows
  const TRIED = [
    ["reward", (value) => plain(value, 2), "reward of the answer as the piece ended"],
    ["threshold", (value) => plain(value, 2), "reward that it had to reach"],
    ["share", percent, "weight among the answers that grew beside each other"],
  ];
  function tried({ rows, more }) {
    const has = TRIED.map((_, i) => rows.some((row) => row[i + 1] !== null));
    const what = has[1] ? "Tried here and given up" : has[2] ? "Answers dropped here" : "Drawn here and not kept";
    const columns = TRIED.map((column, i) => [...column, i + 1]).filter((_, i) => has[i]);
    const lines = rows.map((row) => el("tr", {},
      el("td", {}, el("span", { class: "piece", title: row[0], text: shown(row[0]) || "…" })),
      ...columns.map(([title, print, , i]) => el("td", { "data-tried": title, text: print(row[i]) }))));
    const heads = [el("th", { scope: "col", text: what }), ...columns.map(([title, , help]) => el("th", { scope: "col", title: help, text: title }))];
    return el("div", { id: "inspector-tried" },
      el("table", { class: "tried" }, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...lines)),
      more > 0 && el("div", { class: "hint", text: `and ${more} more` }));
  }
  function candidate(row, step) {
    const marks = [row[0] === step.id && ["●", "taken"], row[5] === 1 && ["○", "the base LM's favourite"], row[6] === 1 && ["▲", "highest score"]].filter(Boolean);
    const cell = el("span", { class: "cand" }, el("span", { class: "word", title: `${row[1]} · token id ${row[0]}`, text: shown(row[1]) || "…" }));
    for (const [mark, title] of marks) cell.append(el("span", { class: "mark", title, role: "img", "aria-label": title, text: mark }));
    return cell;
  }
  function share(p) {
    const cell = el("span", { class: "share", text: percent(p) });
    cell.style.setProperty("--share", Math.max(0, Math.min(1, p ?? 0)));
    return cell;
  }
  function branch(row, head, index) {
    const name = `Branch here with ${shown(row[1]) || "…"}`;
    const go = () => trigger("branch", { comparison: head.comparison, trace: head.trace, index, token_id: row[0] });
    return el("button", { class: "branch", type: "button", "aria-label": name, title: name + ": a new column goes on from this token", onclick: go, text: "Branch here" });
  }

  function peers({ column, index }) {
    const others = Object.values(rgtg.views).filter((view) => view.column !== column && view.steps[index]);
    if (!others.length) return null;
    const line = el("div", { class: "peers" }, "Same step: ");
    for (const view of others.sort((a, b) => a.column.localeCompare(b.column))) {
      const step = view.steps[index], value = rgtg.reward(view, index);
      line.append(el("button", { type: "button", class: "peer-link", onclick: () => rgtg.select(view.column, index, "inspector"), text: `${view.column} ${quoted(step.t || step.x || "")} ${value === null ? "" : signed(value)}` }));
    }
    return line;
  }

  function toTried() {
    const box = root.querySelector(".table"); // it alone scrolls, the page stays where it is
    box.scrollTop += root.querySelector("#inspector-tried").getBoundingClientRect().top - box.getBoundingClientRect().top;
  }

  function draw(found) {
    now = found;
    const { head, step, index, column } = found;
    const go = (to) => rgtg.select(column, to, "inspector");
    const steps = rgtg.views[column].steps;
    const held = document.activeElement?.closest?.("#inspector") ? document.activeElement.id : "";
    root.replaceChildren(
      el("div", { class: "panel-head" },
        el("h2", { text: "Why this token" }),
        el("span", { class: "where", text: `${column} · token ${index + 1} of ${steps.length}` }),
        step.y && el("button", { id: "inspector-to-tried", type: "button", class: "small", onclick: toTried, text: `${step.y.rows.length + step.y.more} given up ↓` }),
        el("span", { class: "legend-line", text: "● taken   ○ base LM's favourite   ▲ highest score" }),
        el("button", { id: "inspector-previous", type: "button", class: "small", "aria-label": "Previous token", disabled: index === 0, onclick: () => go(index - 1), text: "‹" }),
        el("button", { id: "inspector-next", type: "button", class: "small", "aria-label": "Next token", disabled: index + 1 >= steps.length, onclick: () => go(index + 1), text: "›" }),
        el("button", { id: "inspector-close", type: "button", class: "small", "aria-label": "Close", onclick: rgtg.close, text: "×" }),
      ),
      el("p", { id: "inspector-sentence", text: sentence(head, step, index) }),
      el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Candidates" }, step.c?.length ? table(head, step, index) : el("p", { class: "hint", text: "No candidates were kept for this token." }), step.y && tried(step.y)),
      peers(found) ?? "",
    );
    if (held) document.getElementById(held)?.focus();
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
