// What a person said and the app has not answered: kept in this tab, in order, and sent again under the same id until an answer comes, so
// that it is stored once. Gradio reloads the page when the app is there again; what was kept outlives that.
rgtg.outbox = (send, changed, KEY = "rgtg-said") => {
  const PATIENCE = 5000, EVERY = 2000, TIMES = 3;
  let acts = [], timer = null, away = false, tries = 0;
  try { acts = JSON.parse(sessionStorage.getItem(KEY) || "[]"); } catch { /* without a store of its own a tab keeps it until it is reloaded */ }
  const keep = () => { try { sessionStorage.setItem(KEY, JSON.stringify(acts)); } catch { /* see above */ } };

  function next() {
    clearTimeout(timer);
    away = false;
    tries = 0;
    if (acts.length) now();
    changed();
  }
  function now() {
    tries += 1;
    timer = setTimeout(late, PATIENCE);
    send(acts[0]);
  }
  function late() {
    away = true;
    changed();
    again();
  }
  async function again() {
    clearTimeout(timer);
    const there = await fetch("gradio_api/app_id", { signal: AbortSignal.timeout(4000) }).then((answer) => answer.ok, () => false);
    if (!acts.length) return;
    if (!there) timer = setTimeout(again, EVERY);
    else if (tries < TIMES) now();
    else answered(acts[0].id, "lost: the app did not respond; please repeat it");
  }
  function answered(id, lost = "") {
    if (!acts.some((act) => act.id === id)) return;
    acts = acts.filter((act) => act.id !== id);
    keep();
    next();
    if (lost) changed(lost);
  }
  document.addEventListener("rgtg:unreachable", () => { if (acts.length && !away) late(); });
  return {
    put(act) { acts.push(act); keep(); if (acts.length === 1) next(); else changed(); },
    answered,
    resume: () => { if (acts.length && !tries) next(); },
    all: () => acts,
    of: (comparison) => acts.filter((act) => act.comparison === comparison),
    away: () => away,
  };
};

// The tokens of a public server, one a vote: the newest of each comparison, kept with a vote from its first sending on, so that it is the same again.
rgtg.voteTokens = () => {
  const newest = new Map();
  return {
    note(comparison, token) { if (token) newest.set(comparison, token); },
    with(act) {
      if (act.kind === "vote" && !act.bound && newest.has(act.comparison)) act.token = newest.get(act.comparison);
      act.bound = true;
      return act;
    },
  };
};
