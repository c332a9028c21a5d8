// A column's text. The value is NDJSON that only grows: a header, a line a token, notes, an end (pages/token_view.py).
rgtg.tokenView = (element, props, watch) => {
  const { el, views } = rgtg;
  const root = element.querySelector(".drawn");
  const box = el("div", { class: "text" });
  const prompt = el("span", { class: "prompt" });
  const tokens = el("span", { class: "tokens", role: "group", "aria-label": "Answer of column " + props.column });
  const foot = el("div", { class: "facts" });
  box.append(prompt, tokens);
  root.append(box, foot);
  const view = (views[props.column] = { column: props.column, head: null, steps: [], done: true, box, paint });
  let first = null, read = 0, follow = true;

  function clear(head) {
    Object.assign(view, { head, steps: [], done: !head });
    tokens.replaceChildren();
    foot.textContent = "";
    foot.title = "";
    const text = head?.prompt ?? "";
    prompt.textContent = text.length > 160 ? "…" + text.slice(-150) : text;
    follow = true;
    if (rgtg.opened()?.column === props.column) rgtg.close();
    rgtg.tell("column", { column: props.column });
  }

  function draw() {
    const text = props.value || "", cut = text.indexOf("\n") + 1;
    if (text.slice(0, cut) !== first || text.length < read) {
      first = text.slice(0, cut);
      read = cut;
      clear(cut ? JSON.parse(first) : null);
    }
    const added = document.createDocumentFragment(), from = view.steps.length;
    for (let end; (end = text.indexOf("\n", read)) >= 0; read = end + 1) {
      const found = JSON.parse(text.slice(read, end));
      if (found.note !== undefined) foot.textContent = found.note;
      if (found.end !== undefined) finish(found);
      if (found.t === undefined) continue;
      added.append(token(found, view.steps.length));
      view.steps.push(found);
    }
    if (view.steps.length > from) {
      follow = follow && box.scrollHeight - box.scrollTop - box.clientHeight < 40 && rgtg.opened()?.column !== props.column;
      tokens.append(added);
      paint(from);
      if (follow) box.scrollTop = box.scrollHeight;
      const rover = tokens.querySelector('[tabindex="0"]') ?? tokens.firstChild;
      if (rover) rover.tabIndex = 0;
    }
    rgtg.rescaleSoon(view.done && !rgtg.running());
    box.style.setProperty("--half-range", rgtg.half() || 1);
  }

  function token(step, index) {
    const span = el("span", { class: "tok", role: "button", tabindex: "-1", "aria-pressed": "false", "data-x": step.x, text: step.t });
    span.index = index;
    if (step.t.includes("\n")) span.dataset.line = step.t.replace(/[^\n]/g, "").replaceAll("\n", "⏎");
    return span;
  }
  function finish(found) {
    view.done = true;
    foot.title = found.more ? `${foot.textContent} · ${found.more}` : foot.textContent;
    root.dataset.end = found.end;
    rgtg.tell("end", { column: props.column, reason: found.end });
  }

  function paint(from) {
    const nodes = tokens.children;
    for (let i = from; i < nodes.length; i++) {
      const node = nodes[i], number = view.head?.blind ? 0 : rgtg.value(view, i);
      const kind = number === null || number === undefined ? "unscored" : rgtg.CHANNELS[rgtg.colour.channel].from0 ? "high" : number > 0 ? "pos" : number < 0 ? "neg" : "";
      node.className = "tok " + kind + (node.classList.contains("peer") ? " peer" : "");
      node.style.setProperty("--m", Math.abs(number ?? 0).toFixed(4));
      const words = rgtg.shown(view.steps[i].t) || view.steps[i].x || "";
      node.setAttribute("aria-label", [words, rgtg.inWords(number)].filter(Boolean).join(", "));
    }
  }

  // one listener each, for all tokens there will be
  const indexOf = (event) => event.target.closest?.(".tok")?.index;
  const focus = (index) => {
    const node = tokens.children[Math.max(0, Math.min(view.steps.length - 1, index))];
    if (!node) return;
    tokens.querySelectorAll('[tabindex="0"]').forEach((other) => (other.tabIndex = -1));
    node.tabIndex = 0;
    node.focus({ preventScroll: false });
  };
  tokens.addEventListener("click", (event) => {
    const index = indexOf(event);
    if (index === undefined || view.head?.blind || !getSelection().isCollapsed) return;
    focus(index);
    const now = rgtg.opened();
    if (now && now.column === props.column && now.index === index) rgtg.close();
    else rgtg.select(props.column, index, "view");
  });
  tokens.addEventListener("keydown", (event) => {
    const index = indexOf(event);
    if (index === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: view.steps.length - 1 }[event.key];
    if (to !== undefined) {
      focus(to);
      if (rgtg.opened()?.column === props.column) rgtg.select(props.column, Math.max(0, Math.min(view.steps.length - 1, to)), "view");
    } else if (event.key === "Enter" || event.key === " ") rgtg.select(props.column, index, "view");
    else return;
    event.preventDefault();
  });
  tokens.addEventListener("mouseover", (event) => {
    const node = event.target.closest?.(".tok");
    if (node) node.title = `token ${node.index + 1}: ${node.getAttribute("aria-label")}`;
  });

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
  watch("value", draw);
  draw();
};
