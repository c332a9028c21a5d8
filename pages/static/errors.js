// What went wrong, in words beside the input that they speak of, or else under what was pressed; gone once that input is changed or the
// same is done with success. `rgtg.complain(words, {field, home})` is for a script; a handler's errors and warnings come by the stream.
(() => {
  const HOMES = ".go-row, #add-form, #made-form, #model-card, #model-list, #job-view, #job-list, #sweep-head, #sweep-list, #inspector, #colour, #line-up-bar, #sweep-panel, #examine-table, #pair-bar, #vote, #task-form, .ann-foot"; // what has buttons
  const requests = new Map(); // id of an event -> {fn, home}
  const unmatched = new Map(); // id of an event that is not known yet -> its messages
  const errors = new Map(); // what an error is of, a function's number or an input's name -> the error
  let home = null, number = 0, watching = null;
  const remember = (event) => (home = event.target.closest?.(HOMES) ?? null);
  for (const name of ["click", "change", "keydown"]) document.addEventListener(name, remember, true);

  const inputOf = (field) => (field ? ["settings-", "train-", "task-", "add-", "made-", "sweep-", "grid-", "examine-", ""].map((start) => document.getElementById(start + field))
    .find((node) => node?.matches("input, select, textarea")) ?? document.getElementById(field)?.querySelector("textarea, input") : null);
  // not of a clock, of the page as it opens, or of what follows from another
  const byHand = (fn) => !window.gradio_config?.dependencies?.find((d) => d.id === fn)?.targets?.some(([, event]) => ["tick", "load", "then", "success", "change"].includes(event));

  function put(error) {
    const input = inputOf(error.field);
    if (input?.closest("details")) input.closest("details").open = true;
    const at = input ? (input.closest(".rgtg-column > :first-child") && !input.closest(".popover") ? input.closest(".drawn") : input.closest("label.field") ?? document.getElementById(error.field) ?? input)
      : error.home?.isConnected ? error.home : document.querySelector(".topline");
    if (error.home?.id === "vote" && at === error.home) at.before(error.note);
    else at?.after(error.note);
    if (!input) return;
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", error.note.id);
  }
  function remove(key) {
    const error = errors.get(key), input = inputOf(error?.field);
    if (!error) return;
    errors.delete(key);
    error.note.remove();
    if (input?.getAttribute("aria-describedby") === error.note.id) {
      input.removeAttribute("aria-describedby");
      if (input.checkValidity()) input.removeAttribute("aria-invalid");
    }
    if (!errors.size) watching = void watching?.disconnect();
  }
  rgtg.complain = (words, { field = "", home = null, key = field || home, id = null } = {}) => {
    remove(key);
    const { el } = rgtg, note = el("p", { class: "error-note", role: "alert", id: `error-${++number}` }, el("span", { text: words }),
      el("button", { type: "button", class: "plain", "aria-label": "Close this message", text: "×", onclick: () => remove(key) }));
    const error = { field, home, id, note };
    errors.set(key, error);
    put(error);
    note.scrollIntoView({ block: "nearest" }); // not behind the vote bar
    rgtg.tell("error", { field });
    // a form that draws itself anew takes the words with it
    watching ??= new MutationObserver(() => { for (const one of errors.values()) if (!one.note.isConnected) put(one); });
    watching.observe(document.body, { childList: true, subtree: true });
  };

  // "&lt;" as it was; a document of its own runs and fetches nothing
  const plain = (text) => new DOMParser().parseFromString(String(text ?? ""), "text/html").documentElement.textContent;
  function answer({ fn, home }, { msg, event_id: id, output, success, log, title }) {
    const from = byHand(fn) ? home : null;
    if (msg === "log" && log) return rgtg.complain(plain(log), { home: from, key: `${fn} warns`, id });
    if (msg === "process_completed" && output && "error" in output) return rgtg.complain(plain(output.error ?? "That did not work. Try again."), { field: title ?? output.title, home: from, key: fn, id });
    if (!success || !errors.size) return;
    for (const [key, error] of [...errors]) if (error.id !== id && (key === fn || (!error.field && byHand(fn)))) remove(key);
  }
  rgtg.hear(document, "asked", ({ id, fn, home }) => {
    requests.set(id, { fn, home });
    for (const message of unmatched.get(id) ?? []) answer(requests.get(id), message);
    unmatched.delete(id);
  });
  rgtg.hear(document, "message", (message) => {
    const id = message.event_id, request = requests.get(id);
    if (!id) return;
    if (!request) return void unmatched.set(id, [...(unmatched.get(id) ?? []), message]);
    answer(request, message);
    if (message.msg === "process_completed") requests.delete(id);
  });
  rgtg.askedFrom = () => home;
  const corrected = (event) => { for (const [key, error] of [...errors]) if (error.field && inputOf(error.field) === event.target) remove(key); };
  for (const name of ["input", "change"]) document.addEventListener(name, corrected);
})();
