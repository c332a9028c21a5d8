"""A stand-in for the package `spaces`: it gives no GPU, but runs the function as ZeroGPU does, in a forked process, argument and yields pickled.

`asked` holds the seconds that were asked for, `pids` the processes that ran the function. Nothing of it is Hugging Face's code.
"""

import inspect
import multiprocessing
import pickle
import sys
import traceback

if "torch" in sys.modules:
    raise RuntimeError("torch was imported before spaces")

asked: list[float] = []
pids: list[int] = []
refusal = ""  # what it says instead of lending, as an error of Gradio's
_context = multiprocessing.get_context("fork")


class Error(Exception):
    __module__ = "gradio.exceptions"

    def __init__(self, message):
        self.message = message


def GPU(task=None, *, duration=60):
    if task is None:
        return lambda function: GPU(function, duration=duration)
    assert inspect.isgeneratorfunction(task), "a coroutine is refused, and a plain function would show no progress"

    def lent(*args):
        if refusal:
            raise Error(refusal)
        asked.append(duration(*args) if callable(duration) else duration)
        sent, stop = pickle.dumps(args), _context.Event()
        results = _context.SimpleQueue()
        process = _context.Process(target=_work, args=(task, sent, results, stop), daemon=True)
        process.start()
        pids.append(process.pid)
        try:
            while (found := results.get())[0] != "end":
                if found[0] == "error":
                    raise RuntimeError(found[1])
                yield pickle.loads(found[1])
        finally:
            stop.set()
            process.join(20)
            if process.is_alive():
                process.kill()

    return lent


def _work(task, sent, results, stop):
    try:
        generator = task(*pickle.loads(sent))
        for value in generator:
            if stop.is_set():
                generator.close()
                break
            results.put(("value", pickle.dumps(value)))
        results.put(("end", None))
    except BaseException:
        results.put(("error", traceback.format_exc()))
