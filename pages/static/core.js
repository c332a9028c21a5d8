// What the parts of a page share: the columns there are, the token that is open, the colour that is shown.
// Text from models and people becomes a node by `textContent` or an attribute, never by markup.
window.rgtg = (() => {
  const views = {}; // letter -> {head, steps, done, ...}, filled by tokens.js
  const colour = { channel: "reward", measure: "" };
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
  const signed = (value, digits = 2) => (value === null || value === undefined ? "–" : (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits));
  const plain = (value, digits = 2) => (value === null || value === undefined ? "–" : (value < 0 ? "−" : "") + Math.abs(value).toFixed(digits));
  const percent = (p) => (p === null || p === undefined ? "–" : (100 * p).toFixed(p < 0.0995 ? 1 : 0) + " %");
  const shown = (text) => (text === "" ? "" : text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ | $/g, "␣"));

  // ---- what colours a token -------------------------------------------------------------------
  const reward = (view, i) => {
    const step = view.steps[i];
    if (!step) return null;
    return colour.measure ? (step.rs?.[colour.measure] ?? null) : (step.r ?? null);
  };
  const CHANNELS = {
    reward: { title: "reward", unit: "", of: reward },
    change: { title: "change of reward", unit: "", of: (v, i) => (i === 0 ? (colour.measure ? null : v.steps[0].d) : minus(reward(v, i), reward(v, i - 1))) },
    margin: { title: "lead over the base's favourite", unit: "", of: (v, i) => v.steps[i].m ?? null },
    surprisal: { title: "surprisal", unit: "nats", from0: true, of: (v, i) => (v.steps[i].lp === undefined ? null : -v.steps[i].lp) },
    none: { title: "no colour", unit: "", of: () => 0 },
  };
  const minus = (a, b) => (a === null || b === null || a === undefined || b === undefined ? null : a - b);
  const value = (view, i) => CHANNELS[colour.channel].of(view, i);
  const inWords = (number) => {
    const channel = CHANNELS[colour.channel];
    if (colour.channel === "none") return "";
    if (number === null || number === undefined) return channel.title + " not scored";
    return `${channel.title} ${channel.from0 ? plain(number) : signed(number)}${channel.unit && " " + channel.unit}`;
  };

  // 98th percentile of the size over all columns; while text grows it only widens, at the end it is set exactly
  let half = 0;
  function rescale(exact) {
    const sizes = [];
    for (const view of Object.values(views)) for (let i = 0; i < view.steps.length; i++) {
      const size = Math.abs(value(view, i) ?? 0);
      if (size > 0) sizes.push(size);
    }
    sizes.sort((a, b) => a - b);
    const found = sizes.length ? sizes[Math.min(sizes.length - 1, Math.floor(0.98 * sizes.length))] : 0;
    const next = exact ? found : Math.max(half, found);
    if (next === half) return;
    half = next;
    for (const view of Object.values(views)) view.box.style.setProperty("--half-range", half || 1);
    tell("scale", { half });
  }
  let soon = null; // the views of one update ask together
  function rescaleSoon(exact) {
    if (soon) return void (soon.exact ||= exact);
    soon = { exact };
    requestAnimationFrame(() => { const asked = soon; soon = null; rescale(asked.exact); });
  }
  function paintAll() {
    half = 0;
    for (const view of Object.values(views)) view.paint(0);
    rescale(true);
    tell("scale", { half });
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
  return { views, colour, CHANNELS, el, tell, hear, signed, plain, percent, shown, value, reward, inWords, rescaleSoon, paintAll, select, close, running, say, opened: () => open, half: () => half };
})();
