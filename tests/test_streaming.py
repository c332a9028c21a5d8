"""What a comparison sends to its page."""

from test_compare_page import StubWorkbench, a_page, run


def test_every_answer_with_texts_has_them_all_and_the_last_has_none():
    page = a_page(StubWorkbench())
    views = [page.columns.views[name] for name in "ABC"]
    texts = [[update[view] for view in views if view in update] for update in run(page)]
    first = next(i for i, found in enumerate(texts) if found)
    assert [len(found) for found in texts[first:]] == [3] * (len(texts) - first - 1) + [0]
    for before, after in zip(texts[first:-1], texts[first + 1 : -1], strict=False):
        assert all(new.startswith(old) for old, new in zip(before, after, strict=True))
