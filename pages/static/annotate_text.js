// The answers of a blind pair as tokens, of which a person selects some: by pointer, or with the arrows and Shift. A pair's node is made when
// the pair arrives and hidden until it is shown, so that a key has nothing to draw.
rgtg.annotated = (pair) => {
  const { el } = rgtg;
  const SIGNS = { good: "good", bad: "bad", goes_wrong: "goes wrong here" };
  let chosen = null, dragging = false; // {answer, anchor, focus}: numbers of an answer and of its tokens
  const marks = new Map((pair.marks ?? []).map(([trace, start, end, label]) => [`${trace} ${start} ${end}`, { trace, start, end, label }]));

  const answers = pair.answers.map((answer, a) => {
    const tokens = answer.tokens.map((token, i) => {
      const span = el("span", { class: "tok" + (pair.branch !== undefined && i < pair.branch ? " common" : ""), role: "button", tabindex: i === 0 ? "0" : "-1", "data-x": token.x, "aria-pressed": "false" });
      span.append(...token.t.split(/(\n)/).map((part) => (part === "\n" ? el("span", { class: "newline", text: part }) : part)));
      span.place = [a, i];
      return span;
    });
    const text = el("div", { class: "ann-text", role: "group", dir: "auto", "aria-label": `Answer ${a + 1}` }, ...tokens);
    const rank = el("span", { class: "ann-rank" });
    const node = el("section", { class: "ann-answer", "aria-label": `Answer ${a + 1}` }, el("h2", {}, String(a + 1), rank), text);
    return { id: answer.id, node, tokens, text, rank };
  });
  const node = el("div", { class: "ann-pair", hidden: true, "data-pair": pair.id },
    el("p", { class: "ann-prompt", dir: "auto", text: pair.prompt }),
    pair.branch !== undefined ? el("p", { class: "ann-branch", text: "Two continuations of one answer: the grey text is common to both. Which goes on better?" }) : null,
    el("div", { class: "ann-answers", "data-number": String(answers.length) }, ...answers.map((one) => one.node)));

  const bounds = () => (chosen ? [Math.min(chosen.anchor, chosen.focus), Math.max(chosen.anchor, chosen.focus) + 1] : [0, 0]);
  function paint() {
    const [start, end] = bounds();
    answers.forEach((answer, a) => answer.tokens.forEach((token, i) => {
      const on = chosen?.answer === a && i >= start && i < end;
      token.setAttribute("aria-pressed", String(on));
      const labels = [...marks.values()].filter((m) => m.trace === answer.id && m.start <= i && i < m.end).map((m) => m.label);
      for (const label of Object.keys(SIGNS)) token.classList.toggle("mark-" + label, labels.includes(label));
      token.setAttribute("aria-label", [rgtg.shown(answer.tokens[i].textContent) || token.dataset.x || "", ...labels.map((label) => SIGNS[label])].filter(Boolean).join(", "));
    }));
  }
  function choose(a, i, extend = false) {
    const answer = answers[a];
    if (!answer?.tokens.length) return;
    const index = Math.max(0, Math.min(answer.tokens.length - 1, i));
    const anchor = extend && chosen?.answer === a ? chosen.anchor : index;
    chosen = { answer: a, anchor, focus: index };
    answer.text.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
    answer.tokens[index].tabIndex = 0;
    answer.tokens[index].focus();
    paint();
  }
  function clear() {
    chosen = null;
    paint();
  }
  // whether the key moved what is selected
  function key(event) {
    const at = chosen ?? { answer: 0, focus: -1 }, ahead = getComputedStyle(answers[at.answer].text).direction === "rtl" ? -1 : 1;
    const steps = { ArrowRight: ahead, ArrowLeft: -ahead, Home: -1e9, End: 1e9 };
    if (event.key in steps) choose(at.answer, chosen ? at.focus + steps[event.key] : 0, event.shiftKey);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const next = chosen ? at.answer + (event.key === "ArrowDown" ? 1 : -1) : 0;
      if (next >= 0 && next < answers.length) choose(next, chosen ? at.focus : 0);
    } else if (event.key === "Escape" && chosen) clear();
    else return false;
    return true;
  }
  const placeOf = (event) => event.target.closest?.(".tok")?.place;
  node.addEventListener("pointerdown", (event) => {
    const place = placeOf(event);
    if (!place || event.button) return;
    event.preventDefault();
    dragging = true;
    if (chosen && !event.shiftKey && chosen.answer === place[0] && chosen.anchor === place[1] && chosen.focus === place[1]) clear();
    else choose(...place, event.shiftKey);
    addEventListener("pointerup", () => { dragging = false; }, { once: true });
  });
  node.addEventListener("pointermove", (event) => {
    const place = dragging && document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".tok")?.place;
    if (place && chosen && place[0] === chosen.answer && place[1] !== chosen.focus) choose(...place, true);
  });
  // the mark that is to be sent: of what is selected, or its withdrawal where it is there already
  function mark(label) {
    if (!chosen) return [];
    const trace = answers[chosen.answer].id, [from, to] = bounds(), [start, end] = label === "goes_wrong" ? [chosen.focus, chosen.focus + 1] : [from, to];
    const key = `${trace} ${start} ${end}`, there = marks.get(key)?.label === label;
    const before = label === "goes_wrong" && !there ? [...marks.values()].filter((m) => m.trace === trace && m.label === label) : [];
    for (const m of before) marks.delete(`${m.trace} ${m.start} ${m.end}`);
    if (there) marks.delete(key);
    else marks.set(key, { trace, start, end, label });
    paint();
    return [...before.map((m) => ({ ...m, label: "withdrawn" })), { trace, start, end, label: there ? "withdrawn" : label }];
  }
  // shows the levels of a ranking, of numbers of answers
  const ranked = (order) => answers.forEach((answer, a) => { answer.rank.textContent = order.some((level) => level.includes(a)) ? ` rank ${order.findIndex((level) => level.includes(a)) + 1}` : ""; });
  paint();
  return { ...pair, node, ranked, mark, clear, key, choose, ids: answers.map((one) => one.id), chosen: () => chosen && { answer: chosen.answer, trace: answers[chosen.answer].id, index: chosen.focus } };
};
