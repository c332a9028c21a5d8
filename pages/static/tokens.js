// A column's text, drawn token by token, and what is said beside one.

// What a token's reward, its change and its probability are, beside it while it is pointed at or has the focus.
rgtg.tip = (() => {
  let node = null;
  function hide() {
    if (node) node.hidden = true;
  }
  function show(token, lines) {
    if (!node) {
      node = rgtg.el("div", { id: "token-tip", "aria-hidden": "true" }); // the token's own name says the same
      (document.querySelector(".gradio-container") ?? document.body).append(node);
      document.addEventListener("scroll", hide, true);
      document.addEventListener("keydown", (event) => event.key === "Escape" && hide(), true);
    }
    node.replaceChildren(...lines.map((text, i) => rgtg.el(i ? "div" : "b", { dir: "auto", text })));
    node.hidden = false;
    const at = token.getClientRects()[0] ?? token.getBoundingClientRect(), size = node.getBoundingClientRect();
    const above = at.bottom + 4 + size.height > innerHeight - 60 && at.top - 4 - size.height > 0;
    node.style.left = `${Math.max(4, Math.min(at.left, innerWidth - size.width - 4))}px`;
    node.style.top = `${above ? at.top - 4 - size.height : at.bottom + 4}px`;
  }
  // these lines beside a control while it is pointed at or has the focus
  function of(control, lines) {
    for (const name of ["mouseenter", "focus"]) control.addEventListener(name, () => (name === "focus" && !control.matches(":focus-visible")) || show(control, lines));
    for (const name of ["mouseleave", "mousedown", "blur"]) control.addEventListener(name, hide);
  }
  return { show, hide, of };
})();

// The value is NDJSON that only grows: a header, a line a token, notes, an end (pages/token_view.py).
rgtg.tokenView = (element, props, watch) => {
  const { el, views } = rgtg;
  const root = element.querySelector(".drawn");
  const box = el("div", { class: "text", dir: "auto" });
  const prompt = el("span", { class: "prompt" });
  const tokens = el("span", { class: "tokens", role: "group", "aria-label": "Answer of column " + props.column });
  const foot = el("div", { class: "facts" }), cost = el("div", { class: "cost" });
  box.append(prompt, tokens);
  root.append(box, foot, cost);
  const view = (views[props.column] = { column: props.column, head: null, steps: [], done: true, box, paint, focus });
  let first = null, read = 0, grown = false, follow = true;

  function clear(head) {
    Object.assign(view, { head, steps: [], done: !head });
    tokens.replaceChildren();
    foot.textContent = cost.textContent = "";
    foot.title = cost.title = "";
    const text = head?.prompt ?? "";
    prompt.textContent = text.length > 160 ? "…" + text.slice(-150) : text;
    follow = true;
    if (rgtg.opened()?.column === props.column) rgtg.close();
    rgtg.tell("column", { column: props.column });
  }

  function draw() {
    rgtg.forget();
    const text = props.value || "", cut = text.indexOf("\n") + 1;
    if (text.slice(0, cut) !== first || text.length < read) {
      first = text.slice(0, cut);
      read = cut;
      clear(cut ? JSON.parse(first) : null);
    }
    const added = document.createDocumentFragment(), from = view.steps.length;
    for (let end; (end = text.indexOf("\n", read)) >= 0; read = end + 1) {
      const line = JSON.parse(text.slice(read, end));
      if (line.note !== undefined) foot.textContent = line.note;
      if (line.cost !== undefined) cost.textContent = line.cost;
      if (line.end !== undefined) finish(line);
      if (line.t === undefined) continue;
      added.append(token(line, view.steps.length));
      view.steps.push(line);
    }
    if ((grown = view.steps.length > from)) {
      tokens.append(added);
      paint(from);
      const rover = tokens.querySelector('[tabindex="0"]') ?? tokens.firstChild;
      if (rover) rover.tabIndex = 0;
    }
    rgtg.rescaleAfter(view.done && !rgtg.running());
    box.style.setProperty("--half-range", rgtg.half(view));
  }

  // the end stays in sight unless a person scrolled away or reads a token
  box.addEventListener("scroll", () => { follow = box.scrollHeight - box.scrollTop - box.clientHeight < 40; }, { passive: true });
  const scroll = () => { if (grown && follow && rgtg.opened()?.column !== props.column) box.scrollTop = 1e9; };

  function token(step, index) {
    const span = el("span", { class: "tok", role: "button", tabindex: "-1", "aria-pressed": "false", "data-x": step.x });
    span.index = index;
    // each newline has its sign where it stands
    span.append(...step.t.split(/(\n)/).map((part) => (part === "\n" ? el("span", { class: "newline", text: part }) : part)));
    return span;
  }
  function finish(line) {
    view.done = true;
    foot.title = cost.title = line.more || foot.textContent;
    root.dataset.end = line.end;
    rgtg.tell("end", { column: props.column, reason: line.end });
  }

  function paint(from) {
    const nodes = tokens.children;
    for (let i = from; i < nodes.length; i++) {
      const node = nodes[i], number = view.head?.blind ? 0 : rgtg.value(view, i);
      const kind = number === null || number === undefined ? "unscored" : rgtg.CHANNELS[rgtg.colour.channel].from0 ? "high" : number > 0 ? "pos" : number < 0 ? "neg" : "";
      node.className = "tok " + kind + (node.classList.contains("peer") ? " peer" : "");
      node.style.setProperty("--m", Math.abs(number ?? 0).toFixed(4));
      node.setAttribute("aria-label", [name(i), ...rgtg.tokenFacts(view, i)].filter(Boolean).join(", "));
    }
  }

  const name = (index) => rgtg.shown(view.steps[index].t) || view.steps[index].x || "";
  const tip = (index) => rgtg.tip.show(tokens.children[index], [`${index + 1} “${name(index)}”`, ...rgtg.tokenFacts(view, index)]);

  // one listener each, for all tokens there will be
  const isOpen = (index) => rgtg.opened()?.column === props.column && rgtg.opened().index === index;
  const indexOf = (event) => event.target.closest?.(".tok")?.index;
  function focus(index) {
    const node = tokens.children[Math.max(0, Math.min(view.steps.length - 1, index))];
    if (!node) return;
    tokens.querySelectorAll('[tabindex="0"]').forEach((other) => (other.tabIndex = -1));
    node.tabIndex = 0;
    node.focus({ preventScroll: false });
  }
  tokens.addEventListener("click", (event) => {
    const index = indexOf(event);
    if (index === undefined || view.head?.blind || !getSelection().isCollapsed) return;
    focus(index);
    if (isOpen(index)) rgtg.close();
    else rgtg.select(props.column, index, "view");
  });
  tokens.addEventListener("keydown", (event) => {
    const index = indexOf(event);
    if (index === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Tab" && !event.shiftKey && isOpen(index) && rgtg.toCandidates()) return event.preventDefault();
    const ahead = getComputedStyle(tokens).direction === "rtl" ? -1 : 1;
    const to = { ArrowLeft: index - ahead, ArrowRight: index + ahead, Home: 0, End: view.steps.length - 1 }[event.key];
    if (to !== undefined) {
      focus(to);
      if (rgtg.opened()?.column === props.column) rgtg.select(props.column, Math.max(0, Math.min(view.steps.length - 1, to)), "view");
    } else if (event.key === "Enter" || event.key === " ") rgtg.select(props.column, index, "view");
    else return;
    event.preventDefault();
  });
  tokens.addEventListener("mouseover", (event) => indexOf(event) !== undefined && !view.head?.blind && tip(indexOf(event)));
  tokens.addEventListener("focusin", (event) => indexOf(event) !== undefined && event.target.matches(":focus-visible") && tip(indexOf(event)));
  tokens.addEventListener("mouseout", rgtg.tip.hide);
  tokens.addEventListener("focusout", rgtg.tip.hide);

  rgtg.hear(element, "select", ({ column, index, origin }) => {
    for (const node of tokens.querySelectorAll('.peer, [aria-pressed="true"]')) {
      node.classList.remove("peer");
      node.setAttribute("aria-pressed", "false");
    }
    const node = tokens.children[index];
    if (!node) return;
    if (column === props.column) {
      node.setAttribute("aria-pressed", "true");
      if (origin !== "view") reveal(node);
      queueMicrotask(() => uncover(node)); // once the inspector has heard of it, too, and stands where it will
    } else node.classList.add("peer");
  });
  rgtg.hear(element, "close", () => {
    for (const node of tokens.querySelectorAll('.peer, [aria-pressed="true"]')) {
      node.classList.remove("peer");
      node.setAttribute("aria-pressed", "false");
    }
  });
  function reveal(node) {
    const top = node.offsetTop - box.offsetTop;
    if (top < box.scrollTop || top > box.scrollTop + box.clientHeight - 24) box.scrollTop = top - box.clientHeight / 2;
  }
  // what opened over the page is not over the token
  function uncover(node) {
    const over = document.querySelector(".why-row");
    if (!over) return; // a page without an inspector
    const { top, bottom } = node.getBoundingClientRect(), limit = over.getBoundingClientRect().top;
    if (getComputedStyle(over).position === "sticky" && bottom > limit - 4) window.scrollBy(0, Math.min(bottom - limit + 30, top - 60));
  }
  const drawSoon = () => rgtg.drawSoon(view, { add: draw, scroll });
  watch("value", drawSoon);
  drawSoon();
};
