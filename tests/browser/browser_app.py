"""What the browser tests share: tiny models that say hostile things, the app on a free port, and a visitor."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOSTILE = (
    " `", " ${alert(1)}", " <img src=x onerror=alert(2)>", " </script>", " {{value}}", " <b>bold</b>",
    "\n", " 🧭", "  two", ' "q"', " \\n", " e\u0301",
)  # fmt: skip


def hostile_tokenizer():
    """<s>, </s>, the printable bytes, and the hostile pieces as one token each."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = ["<s>", "</s>", "Ġ", *sorted(c for c in pre_tokenizers.ByteLevel.alphabet() if ord(c) < 256)]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    found.add_tokens(list(HOSTILE))
    return found


def make_models(folder: Path) -> tuple[str, list[str]]:
    """A base LM that says hostile things and two reward models, random but for that, as folders; returns their paths."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForSequenceClassification

    tokenizer = hostile_tokenizer()
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 2048}
    found = []
    for seed, name in enumerate(("tiny-lm", "tiny-partial", "tiny-full")):
        torch.manual_seed(seed)
        if name == "tiny-lm":
            model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=2048, tie_word_embeddings=False, **ids))
        else:
            model = LlamaForSequenceClassification(LlamaConfig(num_labels=1, **shape, **ids))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim == 2:
                    weight.mul_(6.0)
            if name == "tiny-lm":
                _lean(model, len(tokenizer) - len(HOSTILE))
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        found.append(str(folder / name))
    return found[0], found[1:]


def _lean(model, first_hostile: int) -> None:
    """The last layer norm's first place is 10 whatever was read, so that column of the head is a bias: hostile often, the end never."""
    model.transformer.ln_f.weight[0], model.transformer.ln_f.bias[0] = 0.0, 10.0
    model.lm_head.weight[:, 0] = 0.0
    model.lm_head.weight[first_hostile:, 0] = 0.3
    model.lm_head.weight[:2, 0] = -3.0


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def serving(workbench) -> Iterator[str]:
    """The app of this workbench on a free port; yields its address."""
    import app

    port = free_port()
    demo = app.build_app(workbench)
    demo.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, **app.launch_settings(workbench.settings))
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        demo.close(verbose=False)


class Visitor:
    """One person: a context of their own, a page, and all that must not happen on it."""

    def __init__(self, browser, address: str, width: int = 1280, height: int = 900, query: str = "", script: str = ""):
        self.address = address
        self.context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        self.page = self.context.new_page()
        self.page.add_init_script(script)
        self.wrong: list[str] = []
        self.page.on("console", lambda m: m.type == "error" and self.wrong.append(f"console: {m.text}"))
        self.page.on("pageerror", lambda e: self.wrong.append(f"error: {e}"))
        self.page.on("dialog", lambda d: (self.wrong.append(f"dialog: {d.message}"), d.dismiss()))
        elsewhere = lambda url: url.startswith(("http", "ws")) and not url.startswith(address)  # noqa: E731
        self.page.on("request", lambda r: elsewhere(r.url) and self.wrong.append(f"request: {r.url}"))
        self.page.goto(address + query)
        self.opened()

    def opened(self) -> None:
        """Waits until the page can be used."""
        for part in ("#vote-A", "#generate"):
            self.page.wait_for_selector(part, timeout=30_000)
        self.page.wait_for_function("document.querySelector('#model-status .drawn')?.textContent.trim().length > 0")

    @property
    def rater(self):
        """Who this browser is to the workbench."""
        from rgtg.workbench import visitors

        (key,) = [cookie["value"] for cookie in self.context.cookies() if cookie["name"] == "rgtg_rater"]
        return visitors.Visitor("anonymous", key)

    def tokens(self, column: str) -> int:
        return self.page.locator(f"#view-{column} .tok").count()

    def refused(self, field: str, timeout: float = 30_000) -> str:
        """The words of the error beside this input; waits for them."""
        self.page.wait_for_selector(f"#{field}[aria-invalid][aria-describedby]", timeout=timeout)
        return self.page.locator("#" + self.page.locator("#" + field).get_attribute("aria-describedby")).inner_text()

    def text(self, column: str) -> str:
        return self.page.locator(f"#view-{column} .tokens").evaluate("node => node.textContent")

    def set(self, name: str, value: object) -> None:
        self.page.locator(f"#settings-{name}").fill(str(value))

    def status(self) -> str:
        return self.page.locator("#status .drawn").inner_text()

    def wait_status(self, start: str, timeout: float = 30_000) -> None:
        words = "start => document.querySelector('#status .drawn').textContent.startsWith(start)"
        try:
            self.page.wait_for_function(words, arg=start, timeout=timeout)
        except Exception:
            feet = [self.page.locator(f"#view-{c} .facts").inner_text() for c in "ABC"]
            raise AssertionError(f"waited for {start!r}, but it says {self.status()!r}, {feet}, {self.wrong}") from None

    def note(self) -> str:
        return self.page.locator("#vote-note").inner_text()

    def wait_note(self, start: str, timeout: float = 30_000) -> None:
        """Waits until the vote bar's note starts so ("saved" is not "not saved yet")."""
        words = "start => document.querySelector('#vote-note')?.textContent.startsWith(start)"
        try:
            self.page.wait_for_function(words, arg=start, timeout=timeout)
        except Exception:
            pressed = self.page.locator("#vote [aria-pressed=true]").count()
            raise AssertionError(f"waited for {start!r}, but the bar says {self.note()!r}, {pressed} pressed, {self.wrong}") from None

    def generate(self, prompt: str = "the food was", end: str = "done", **settings: object) -> None:
        """Types, generates, waits for the end."""
        for name, value in settings.items():
            self.set(name, value)
        self.page.locator("#prompt textarea").fill(prompt)
        self.page.wait_for_selector("#reward-curve .js-plotly-plot", state="attached")  # a curve that comes before Plotly is loaded may not be drawn
        before = self.page.evaluate("rgtg.views.A.head?.trace ?? ''")
        self.page.locator("#generate").click()
        self.page.wait_for_function("before => (rgtg.views.A.head?.trace ?? '') !== before", arg=before)
        if end:
            self.wait_status(end)
            self.page.wait_for_function("!rgtg.running()")  # the columns are drawn with the next frame

    def comparison_id(self) -> str:
        self.page.wait_for_function("new URL(location.href).searchParams.get('comparison')")
        return self.page.evaluate("new URL(location.href).searchParams.get('comparison')")


class Trainee(Visitor):
    """A visitor of Train, Models or Help; `query` begins with the page's name."""

    def opened(self) -> None:
        self.page.wait_for_selector("nav a[aria-current]", timeout=30_000)
        self.page.wait_for_function("document.querySelector('#model-status .drawn')?.textContent.trim().length > 0")

    def data(self) -> str:
        self.page.wait_for_selector("#data-facts", timeout=60_000)
        return self.page.locator("#data-view").inner_text()
