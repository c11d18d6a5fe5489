"""The client for people: what it prints, and what it says when nobody answers."""

import io

import pytest
from rich.console import Console

from aisle.v1 import recommendation_pb2, slate_pb2
from online.__main__ import main
from online.client import Answer, Client, print_slate
from online.errors import ClientError
from tests.online.serving import Caller
from tests.worlds import user_id

NOBODY = "127.0.0.1:9"


def printed(answer: Answer) -> str:
    text = io.StringIO()
    print_slate(answer, "A title", Console(file=text, width=140))
    return text.getvalue()


def test_a_slate_is_printed_as_a_page_shows_it(read_only_server: Caller) -> None:
    with Client(read_only_server.address) as client:
        client.wait_until_ready()
        answer = client.recommend(user_id(2), page_size=4)
    text = printed(answer)
    first = answer.response.items[0]
    assert "A title" in text
    assert text.count("Even thing") == 4
    for shown in (first.display.title, "Even > Aisle", "USD", first.reason.text, "repeat"):
        assert shown in text
    assert f"model {answer.response.model_version}" in text
    assert f"{answer.elapsed_ms:.1f} ms" in text


def test_options_reach_the_server(read_only_server: Caller) -> None:
    with Client(read_only_server.address) as client:
        similar = client.recommend(
            placement="product_similar", context_items=["p02", "gone"], locale="zh"
        )
        new = client.recommend(user_id(2), new_only=True)
    assert similar.response.items[0].reason.text == "购买“Even thing 02”的顾客也买了"
    assert "not in the catalogue: gone" in printed(similar)
    assert "repeat" not in {item.source for item in new.response.items}


def test_what_was_left_out_is_said() -> None:
    response = recommendation_pb2.RecommendResponse(model_version="m")
    response.degraded.add(stage="source.als", cause=slate_pb2.DegradedStage.CAUSE_TIMED_OUT)
    response.items.add(item_id="p1", score=0.5)
    text = printed(Answer(response, 1.0))
    assert "without source.als (timed_out)" in text
    assert "p1" in text


def test_it_says_that_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with Client(NOBODY) as client, pytest.raises(ClientError):
        client.wait_until_ready(timeout_s=0.2)
    assert main(["ask", "--address", NOBODY]) == 2
    assert f"no server answers at {NOBODY}" in capsys.readouterr().err


def test_it_says_why_it_was_refused(
    read_only_server: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["ask", "--address", read_only_server.address, "--placement", "nowhere"]
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert "INVALID_ARGUMENT" in error
    assert "use one of: buy_again" in error
