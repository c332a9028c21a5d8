// Decoding by hand: a candidate of the open token is chosen with a click or its digit, Backspace takes the last choice back.
rgtg.byHand = (element, props, trigger) => {
  let waiting = null; // the column that a choice was made in
  const byHand = (column) => rgtg.views[column]?.head?.chosen !== undefined && rgtg.views[column];
  const send = (kind, view, detail) => {
    if (!view.done || waiting) return; // the table is that of an answer that is about to go
    waiting = view.column;
    trigger(kind, { comparison: view.head.comparison, trace: view.head.trace, ...detail });
  };
  rgtg.choose = (column, index, token_id) => send("choose", byHand(column), { index, token_id });
  // the table of the next token, where the person was
  function open(column) {
    const view = byHand(column), mine = waiting === column;
    if (mine) waiting = null;
    if (!view || !view.steps.length || !(mine || !rgtg.opened())) return;
    rgtg.select(column, Math.min(view.head.chosen, view.steps.length - 1), "by hand");
    if (mine) rgtg.toCandidates();
  }
  rgtg.hear(element, "end", ({ column }) => byHand(column) && setTimeout(() => open(column)));
  rgtg.hear(element, "message", ({ msg, success }) => { if (msg === "process_completed" && success === false) waiting = null; }); // refused: the table stands
  document.addEventListener("keydown", (event) => {
    const now = rgtg.opened(), view = now && byHand(now.column);
    if (!view || !element.isConnected || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (!event.target.closest?.(`#inspector, #view-${now.column}`)) return;
    if (/^[0-9]$/.test(event.key)) {
      const row = view.steps[now.index]?.c?.[(Number(event.key) + 9) % 10];
      if (row) rgtg.choose(now.column, now.index, row[0]);
    } else if (event.key === "Backspace") {
      if (view.head.chosen) send("take_back", view, { index: view.head.chosen - 1 });
    } else return;
    event.preventDefault();
    event.stopPropagation(); // here a digit is no vote
  }, true);
};
