// One comparison in a file of its own. Text of models becomes a node by `textContent`, never by markup.
const { columns, measures } = JSON.parse(document.getElementById("comparison").textContent);
const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter(Boolean));
  return node;
};
const number = (value, digits = 2) => (value === null || value === undefined ? "–" : (Number(value.toFixed(digits)) < 0 ? "−" : "") + Math.abs(value).toFixed(digits));
const percent = (p) => (p === null || p === undefined ? "–" : (100 * p).toFixed(p < 0.0995 ? 1 : 0) + " %");
const shown = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ | $/g, "␣") || "…";
const boxes = [...document.querySelectorAll(".column .tokens")], why = document.getElementById("why"), picker = document.getElementById("measure");
const nodes = columns.map((column, c) => column.tokens.map((token, i) => {
  const node = el("button", { type: "button", class: "tok", "aria-pressed": "false", onclick: () => open(c, i), onkeydown: (event) => walk(event, c, i) });
  node.textContent = token.t || token.label;
  boxes[c].append(node);
  return node;
}));
for (const name of measures) picker.append(el("option", { value: name, text: name }));
function paint() {
  const name = picker.value, sizes = columns.flatMap(({ tokens }) => tokens.map((token) => Math.abs(token.rewards[name] ?? 0))).filter(Boolean).sort((a, b) => a - b);
  const half = Math.max(0.1, sizes[Math.min(sizes.length - 1, Math.floor(0.98 * sizes.length))] ?? 0);
  columns.forEach(({ tokens }, c) => tokens.forEach((token, i) => {
    const value = token.rewards[name] ?? null, node = nodes[c][i];
    node.className = "tok " + (value === null ? "unscored" : value > 0 ? "pos" : value < 0 ? "neg" : "");
    node.style.setProperty("--m", Math.min(1, Math.abs(value ?? 0) / half) ** 0.8);
    node.title = `${i + 1} “${shown(token.t || token.label)}”` + (name ? `: reward ${number(value)} by ${name}` : "");
  }));
  document.getElementById("scale").textContent = name ? `blue above 0, red below; full colour at ±${half.toFixed(2)}` : "";
}
function open(c, i) {
  const { letter, tokens } = columns[c], token = tokens[i];
  for (const node of document.querySelectorAll('[aria-pressed="true"]')) node.setAttribute("aria-pressed", "false");
  nodes[c][i].setAttribute("aria-pressed", "true");
  const names = [...new Set(token.candidates.flatMap((row) => Object.keys(row.rewards)))];
  const head = ["candidate", "base", ...names, "score", "rank", "after"];
  const rows = token.candidates.map((row) => el("tr", { class: row.id === token.id ? "taken" : null }, ...[
    shown(row.t) + (row.id === token.id ? " ●" : ""), percent(row.p), ...names.map((name) => number(row.rewards[name], 3)), number(row.score, 3),
    row.ranks[0] === row.ranks[1] ? String(row.ranks[1]) : row.ranks.join(" → "), percent(row.after),
  ].map((text) => el("td", { text }))));
  const rewards = Object.entries(token.rewards).map(([name, value]) => `reward ${number(value)} by ${name}`);
  why.replaceChildren(
    el("h2", { text: `${letter} · token ${i + 1} of ${tokens.length}: “${shown(token.t || token.label)}”` }),
    el("p", { text: [`base LM: rank ${token.ranks[0]}, ${percent(token.p)}`, `rank ${token.ranks[1]} after guidance`, ...rewards].join(" · ") }),
    rows.length ? el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Candidates" }, el("table", {}, el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { text, scope: "col" })))), el("tbody", {}, ...rows))) : el("p", { class: "quiet", text: "No candidates were stored for this token." }));
}
function walk(event, c, i) {
  const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: nodes[c].length - 1 }[event.key];
  if (to === undefined || !nodes[c][to]) return;
  event.preventDefault();
  nodes[c][to].focus();
  open(c, to);
}
picker.addEventListener("change", paint);
document.getElementById("colour").hidden = measures.length === 0;
paint();
