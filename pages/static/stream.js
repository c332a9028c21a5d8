// Gradio tells the page of its answers over one stream, which the server closes when nothing is under way. An event that is sent just
// then gets its id while the page still takes the old stream for open: no other is opened, and the answer never comes (gradio 6.31,
// client/js/src/utils/submit.ts and stream.ts). Here a stream that closes while an answer is missing goes on in the next one.
// A page that is left breaks off what it asked for, and Gradio takes that for a lost connection and says so: nobody is told of it here.
(() => {
  let leaving = false;
  // first of all that listen, for Gradio then aborts its stream; it may be stayed on
  addEventListener("beforeunload", () => { leaving = true; setTimeout(() => { leaving = false; }, 2000); }, true);
  addEventListener("pagehide", () => { leaving = true; });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }); // its connections are gone
  const fetched = window.fetch.bind(window);
  const ask = (...request) => fetched(...request).catch((error) => { if (leaving) return new Promise(() => {}); throw error; });
  const unanswered = new Set(), answeredEarly = new Set(); // ids of events: without their answer; answered before their id was known
  let closing = null; // a promise while Gradio has not heard yet that its stream is closed

  const tell = (name, detail) => document.dispatchEvent(new CustomEvent("rgtg:" + name, { detail })); // errors.js hears of it

  async function join(input, options) {
    const { fn_index: fn } = JSON.parse(options?.body ?? "{}"), home = window.rgtg?.askedFrom?.();
    const response = await ask(input, options).catch((error) => { tell("unreachable"); throw error; });
    const { event_id: id } = response.ok ? await response.clone().json() : {};
    if (id) tell("asked", { id, fn, home });
    while (closing) await closing;
    if (id && !answeredEarly.delete(id)) unanswered.add(id);
    return response;
  }

  async function listen(input, options) {
    const request = new Request(input, options);
    const first = await ask(request.clone()).catch((error) => { if (request.signal.aborted) return new Promise(() => {}); throw error; }); // nobody waits for it
    if (!first.ok) return first;
    async function copy(out) {
      const encoder = new TextEncoder();
      for (let response = first; response; ) {
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "", next = null;
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          const messages = (rest + value).split("\n\n");
          rest = messages.pop();
          for (const message of messages) {
            const event = JSON.parse(message.slice("data:".length)), { msg, event_id: id } = event;
            tell("message", event);
            if (msg === "process_completed" && !unanswered.delete(id)) answeredEarly.add(id);
            if (msg === "close_stream" && unanswered.size) next = ask(request.clone());
            else out.enqueue(encoder.encode(message + "\n\n"));
            if (msg === "close_stream" && !next) {
              // it has heard of it when it aborts its request
              closing = new Promise((heard) => { request.signal.addEventListener("abort", heard); setTimeout(heard, 1000); }).then(() => { closing = null; });
              return;
            }
          }
          if (next) break;
        }
        response = await next;
      }
    }
    const body = new ReadableStream({
      start(out) {
        copy(out).then(() => out.close()).catch((error) => {
          unanswered.clear();
          if (request.signal.aborted) out.close(); // it was told to end
          else if (!leaving) out.error(error);
        });
      },
    });
    return new Response(body, { status: first.status, headers: first.headers });
  }

  window.fetch = (input, options) => {
    const path = new URL(input.url ?? input, location.href).pathname;
    return path.endsWith("/queue/join") ? join(input, options) : path.endsWith("/queue/data") ? listen(input, options) : ask(input, options);
  };
})();
