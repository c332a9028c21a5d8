// What the parts of a page share: the columns there are, the token that is open, the colour that is shown.
// Text from models and people becomes a node by `textContent` or an attribute, never by markup.
window.rgtg = (() => {
  const views = {}; // letter -> {head, steps, done, ...}, filled by tokens.js
  const OWN = "own guide"; // in place of a reward model's name: each column's own (rgtg/plots.py has the same word)
  const colour = { channel: "reward", measure: "" }; // "" is what `measure` chooses
  let open = null; // {column, index}

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "text") node.textContent = value;
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
    return node;
  }
  const tell = (name, detail = {}) => document.dispatchEvent(new CustomEvent("rgtg:" + name, { detail }));
  const hear = (element, name, listener) => {
    // a listener ends with its element: Gradio may take a component away and mount it again
    const on = (event) => (element.isConnected ? listener(event.detail) : document.removeEventListener("rgtg:" + name, on));
    document.addEventListener("rgtg:" + name, on);
  };
  const plain = (value, digits = 2, plus = "") => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value).toFixed(digits);
    return (Number(size) === 0 ? "" : value < 0 ? "−" : plus) + size; // what rounds to nothing has no sign
  };
  const signed = (value, digits = 2) => plain(value, digits, "+");
  const percent = (p) => (p === null || p === undefined ? "–" : (100 * p).toFixed(p < 0.0995 ? 1 : 0) + " %");
  const shown = (text) => (text === "" ? "" : text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ | $/g, "␣"));

  // ---- what colours a token -------------------------------------------------------------------
  // the one measure for all columns unless a person chose: a reward model that guides none of them, the judge; else the only one there is
  let known = null; // as long as no column has changed
  const forget = () => { known = null; };
  const measure = () => colour.measure || (known ??= judge());
  function judge() {
    const heads = Object.values(views).filter((view) => view.head), guides = new Set(heads.flatMap((view) => (view.head.guides ?? []).map(([name]) => name)));
    const seen = new Set(heads.flatMap((view) => Object.keys(view.steps[0]?.rs ?? {}))), judges = [...seen].filter((name) => !guides.has(name));
    return judges.at(-1) ?? (seen.size === 1 ? [...seen][0] : OWN);
  }
  const measureOf = (view) => {
    const name = measure();
    return name !== OWN ? name : (view.head?.guide ?? Object.keys(view.steps[0]?.rs ?? {})[0] ?? "");
  };
  const reward = (view, i) => view.steps[i]?.rs?.[measureOf(view)] ?? null;
  const change = (view, i) => (i === 0 ? null : minus(reward(view, i), reward(view, i - 1)));
  const CHANNELS = {
    reward: { title: "reward", unit: "", measured: true, of: reward },
    change: { title: "change in reward", unit: "", measured: true, of: change },
    margin: { title: "margin over the base LM's top token", unit: "", of: (v, i) => v.steps[i].m ?? null },
    surprisal: { title: "surprisal", unit: "nats", from0: true, of: (v, i) => (v.steps[i].lp === undefined ? null : -v.steps[i].lp) },
    share: { title: "share", unit: "", from0: true, of: reward }, // of a view that is never negative
    none: { title: "no colour", unit: "", of: () => 0 },
  };
  const minus = (a, b) => (a === null || b === null || a === undefined || b === undefined ? null : a - b);
  const value = (view, i) => CHANNELS[colour.channel].of(view, i);
  // what there is to say of a token: its reward and whose it is, the change, how probable it was, and what colours it
  function tokenFacts(view, i) {
    const step = view.steps[i], name = measureOf(view), score = reward(view, i), delta = change(view, i);
    if (view.head?.views) return Object.entries(step.rs).map(([title, number]) => `${title} ${signed(number)}`); // of one reward model
    if (view.head?.blind || step.lp === undefined) return [];
    const channel = CHANNELS[colour.channel], number = value(view, i);
    const rewards = [score === null ? "reward not scored" + (name && ` by ${name}`) : `reward ${signed(score)} by ${name}`, delta !== null && `change in reward ${signed(delta)}`];
    return [
      !channel.measured && colour.channel !== "none" && number !== null && `${channel.title} ${channel.from0 ? plain(number) : signed(number)}${channel.unit && " " + channel.unit}`,
      ...(colour.channel === "change" ? rewards.reverse() : rewards), // what colours it comes first
      step.lp !== null && `probability ${percent(Math.exp(step.lp))}` + (view.head?.terms?.length > 1 && step.g !== null ? `, after guidance ${percent(step.g)}` : ""),
    ].filter(Boolean);
  }

  // 98th percentile of the size over the columns that share a measure; while text grows it only widens, at the end it is set exactly.
  // What is smaller than FLOOR is noise: it never gets the full colour.
  const FLOOR = 0.1;
  let halves = new Map(), painted = "";
  const groupOf = (view) => (CHANNELS[colour.channel].measured && measure() === OWN ? measureOf(view) : "");
  function rescale(exact) {
    if (painted !== (painted = measure())) for (const view of Object.values(views)) view.paint(0);
    const sizes = new Map();
    for (const view of Object.values(views)) for (let i = 0; i < view.steps.length; i++) {
      const size = Math.abs(value(view, i) ?? 0), group = groupOf(view);
      if (!sizes.has(group)) sizes.set(group, []);
      if (size > 0) sizes.get(group).push(size);
    }
    const next = new Map([...sizes].map(([group, sorted]) => {
      sorted.sort((a, b) => a - b);
      const percentile = Math.max(FLOOR, sorted[Math.min(sorted.length - 1, Math.floor(0.98 * sorted.length))] ?? 0);
      return [group, exact ? percentile : Math.max(halves.get(group) ?? 0, percentile)];
    }));
    if (next.size === halves.size && [...next].every(([group, half]) => halves.get(group) === half)) return;
    halves = next;
    for (const view of Object.values(views)) view.box.style.setProperty("--half-range", half(view));
    tell("scale");
  }
  const half = (view) => halves.get(groupOf(view)) ?? 1;
  // [{name, columns, half}]: the scales in use; the name of a scale that all share is ""
  function scales() {
    const list = [...halves].map(([name, half]) => ({ name, half, columns: Object.values(views).filter((v) => v.steps.length && groupOf(v) === name).map((v) => v.column).sort() }));
    return list.length ? list : [{ name: "", half: 1, columns: [] }];
  }
  // Views are drawn together, once a frame: first all add their tokens, then all scroll, so that the page is laid out once.
  const waiting = new Map(); // view -> {add, scroll}
  let exactly = null;
  function drawSoon(view, parts) {
    if (!waiting.size) (document.hidden ? setTimeout : requestAnimationFrame)(drawWaiting); // a hidden page has no frames
    waiting.set(view, parts);
  }
  function drawWaiting() {
    const parts = [...waiting.values()];
    waiting.clear();
    for (const { add } of parts) add();
    if (exactly !== null) rescale(exactly);
    exactly = null;
    for (const { scroll } of parts) scroll();
  }
  const rescaleAfter = (exact) => { exactly ||= exact; }; // once all that is being drawn is there
  function paintAll() {
    halves = new Map();
    painted = measure();
    for (const view of Object.values(views)) view.paint(0);
    rescale(true);
    tell("scale");
  }

  // ---- the open token -------------------------------------------------------------------------
  function select(column, index, origin) {
    const view = views[column];
    if (!view || !view.steps[index] || view.head?.blind) return;
    open = { column, index };
    tell("select", { origin, column, index, trace: view.head.trace, step: view.steps[index], head: view.head });
  }
  function close() {
    open = null;
    tell("close");
  }
  const running = () => Object.values(views).some((view) => view.head && !view.done);
  const say = (text) => {
    const line = document.querySelector("#status .drawn");
    if (line) line.textContent = text;
  };
  return { views, colour, OWN, CHANNELS, el, tell, hear, signed, plain, percent, shown, value, reward, measure, measureOf, forget, tokenFacts, drawSoon, rescaleAfter, paintAll, select, close, running, say, opened: () => open, half, scales };
})();
