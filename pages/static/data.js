// One comparison on the Data page: its texts, the votes, and the pairs that they give for training. What is excluded stays, with its reason.
rgtg.inspected = (element, props, trigger, watch, exclude, saveHtml) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let asking = "";
  const key = (vote, rejected) => `${vote}/${rejected ?? ""}`;

  function draw() {
    const value = JSON.parse(props.value || "{}");
    if (!value.comparison) return void rgtg.put(root, el("p", { class: "quiet", text: "Choose a comparison to see its votes, and the pairs that they give for training." }));
    const address = "./?comparison=" + encodeURIComponent(value.comparison);
    const answers = value.answers.map((answer) => el("div", { class: "shown-answer" },
      el("div", { class: "line" }, el("b", { text: answer.letter }), " ", answer.made_by, el("span", { class: "quiet", text: ` ${answer.tokens} tokens${answer.end === "eos" || answer.end === "max_new_tokens" ? "" : ", " + answer.end}` })),
      el("p", { dir: "auto", text: answer.text || "(no text)" })));
    const votes = value.votes.map((vote) => el("tr", { class: vote.excluded == null ? "" : "out" },
      el("th", { scope: "row", text: vote.words }), el("td", { text: vote.rater }), el("td", { text: vote.facts }),
      el("td", {}, el("time", { datetime: vote.at, title: new Date(vote.at).toLocaleString(), text: rgtg.age(vote.at) })), el("td", {}, control(value, vote.vote, "", vote.excluded))));
    const pairs = value.pairs.map((pair) => el("li", { class: pair.excluded == null ? "" : "out" },
      el("div", { class: "line" }, el("b", { text: pair.title }), pair.shared ? el("span", { class: "quiet", text: ` first ${pair.shared} tokens alike` }) : null, pair.with_vote ? el("span", { class: "quiet", text: " excluded with its vote" }) : control(value, pair.vote, pair.rejected, pair.excluded)),
      el("p", { class: "pair", dir: "auto" }, el("b", { title: "chosen", text: "+" }), " ", pair.chosen_text),
      el("p", { class: "pair", dir: "auto" }, el("b", { title: "rejected", text: "−" }), " ", pair.rejected_text)));
    rgtg.put(root,
      el("div", { class: "job-head" }, el("h2", { dir: "auto", class: value.prompt.length > 160 ? "long" : null, text: value.prompt.trim() }), el("a", { id: "inspected-open", class: "link", href: address, text: "Open in Compare" }),
        el("button", { id: "inspected-html", type: "button", class: "small", title: "One file that opens without the app", text: "Save as HTML", onclick: () => trigger(saveHtml, { comparison: value.comparison }) })),
      ...answers,
      el("h3", { text: "Votes" }), votes.length ? el("table", { class: "votes" }, el("tbody", {}, ...votes)) : el("p", { class: "quiet", text: "Nobody has voted yet." }),
      el("h3", { text: "Pairs for training" }), pairs.length ? el("ol", { class: "pairs" }, ...pairs) : el("p", { class: "quiet", text: "None: a pair needs a vote for one answer over another with a different text." }));
    document.getElementById("exclude-reason")?.focus();
  }
  function control(value, vote, rejected, excluded) {
    const send = (reason) => { asking = ""; trigger(exclude, { comparison: value.comparison, vote, rejected, reason }); };
    const names = { "data-vote": vote, "data-rejected": rejected };
    if (!value.editable) return excluded == null ? null : el("span", { class: "quiet", text: `excluded: ${excluded}` });
    if (excluded != null) return el("span", { class: "ask" }, el("span", { class: "quiet", text: `excluded: ${excluded}` }), el("button", { type: "button", class: "small include", ...names, text: "Include", onclick: () => send(null) }));
    if (asking !== key(vote, rejected)) return el("button", { type: "button", class: "small exclude", ...names, title: "Leave it out of exports, results and training; nothing is deleted", text: "Exclude …", onclick: () => { asking = key(vote, rejected); draw(); } });
    const reason = el("input", { type: "text", id: "exclude-reason", maxlength: "300", "aria-label": "Why it is excluded", placeholder: "reason" });
    const done = () => (reason.value.trim() ? send(reason.value.trim()) : reason.focus());
    reason.addEventListener("keydown", (event) => { if (event.key === "Enter") done(); if (event.key === "Escape") { asking = ""; draw(); } });
    return el("span", { class: "ask" }, reason, el("button", { type: "button", class: "small", id: "exclude-sure", text: "Exclude", onclick: done }), el("button", { type: "button", class: "small", text: "Cancel", onclick: () => { asking = ""; draw(); } }));
  }
  document.title = "rgtg · Data";
  watch("value", draw);
  draw();
};
