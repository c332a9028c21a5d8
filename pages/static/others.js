// What a method wrote besides the answer that it kept, in a fold below the column: text, reward, why it was lost.
(() => {
  const fold = (view) => view.box.parentElement.querySelector(".others");
  function rows(view) {
    const found = [];
    let before = "", more = 0;
    for (const step of view.steps) {
      for (const [text, reward, threshold, weight] of step.y?.rows ?? []) found.push({ before, text, reward, threshold, weight });
      more += step.y?.more ?? 0;
      before += step.t;
    }
    return { found, more };
  }
  function why({ threshold, weight }, lost) {
    if (threshold !== null) return `${lost}, ${rgtg.plain(threshold)}`;
    return weight === null ? lost : `${lost}: it had ${rgtg.percent(weight)}`;
  }
  function line(other, lost) {
    const { el, shown, signed } = rgtg;
    return el("li", {},
      el("span", { class: "answer", dir: "auto" }, other.before && el("span", { class: "shared", title: "as in the answer that was kept", text: shown(other.before) }), shown(other.text) || "…"),
      el("span", { class: "why" }, other.reward !== null && el("b", { title: "reward at its end", text: signed(other.reward) }), " ", why(other, lost)));
  }
  function draw(view) {
    const { el } = rgtg, { found, more } = rows(view);
    fold(view)?.remove();
    if (!found.length) return;
    const count = found.length + more, list = el("ol", { tabindex: "0", "aria-label": `Other answers of column ${view.column}` });
    const node = el("details", { class: "others" }, el("summary", { text: `${count} other answer${count > 1 ? "s" : ""}` }), list);
    node.addEventListener("toggle", () => {
      if (!node.open || list.childElementCount) return; // written when they are asked for
      const ranked = found.toSorted((a, b) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity));
      list.append(...ranked.map((other) => line(other, view.head.lost)), more > 0 ? el("li", { class: "hint", text: `and ${more} more` }) : "");
    });
    view.box.parentElement.append(node);
  }
  document.addEventListener("rgtg:column", ({ detail }) => { const view = rgtg.views[detail.column]; if (view) fold(view)?.remove(); });
  document.addEventListener("rgtg:end", ({ detail }) => { const view = rgtg.views[detail.column]; if (view?.head?.lost) draw(view); });
})();
