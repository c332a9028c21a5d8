// Ranking of three or four answers: a number puts its answer behind those that are ranked, or takes it out again; "=" makes the next one as good as
// the last; what is not ranked is worse than all that is, and not compared. Two answers of the same pair are never ranked.
rgtg.ranking = (button, changed, send) => {
  let pair = null, order = [], equal = false; // order: levels of numbers of answers, best first
  const equalButton = button("equal", "=", "Equal", "The next answer is as good as the last one", () => { equal = !equal && order.length > 0; draw(); });
  const doneButton = button("ranked", "Enter", "Done", "The others are worse, and not ranked", done);
  function of(next, on) {
    if (next === pair) return;
    pair = next;
    order = [];
    equal = false;
    for (const node of [equalButton, doneButton]) node.hidden = !on;
    draw();
  }
  function press(number) {
    if (!pair?.ids[number]) return;
    const was = order.some((level) => level.includes(number));
    order = order.map((level) => level.filter((one) => one !== number)).filter((level) => level.length);
    if (!was && equal && order.length) order.at(-1).push(number);
    else if (!was) order.push([number]);
    equal = false;
    draw();
  }
  function done() {
    if (!order.length) return changed("rank the answers first: their numbers, the best one first");
    const levels = order.map((level) => level.map((number) => pair.ids[number])), top = levels[0];
    const plain = levels.length === 1 && (top.length === 1 || top.length === pair.ids.length); // a vote without a ranking says it
    send(top.length > 1 ? "tie" : "best", order[0][0], plain ? [] : levels);
  }
  function draw() {
    equalButton.setAttribute("aria-pressed", String(equal));
    doneButton.disabled = !order.length;
    pair?.ranked(order);
    changed(order.length ? `ranked: ${rgtg.rankWords(order, pair.ids.length)}` : "");
  }
  return { of, press, nodes: [equalButton, doneButton] };
};
// "2 > 1 = 3 > rest", of numbers from 0
rgtg.rankWords = (order, number) => [...order.map((level) => level.map((one) => one + 1).join(" = ")), ...(order.flat().length < number ? ["rest"] : [])].join(" > ");
