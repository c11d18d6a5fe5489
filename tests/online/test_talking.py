"""What the terminal says of what the chat understood."""

from aisle.v1 import chat_pb2
from online.talking import understood_text


def test_what_is_not_wanted_does_not_read_as_wanted() -> None:
    slot = chat_pb2.Slot
    answer = chat_pb2.ConverseResponse(
        understanding=chat_pb2.Understanding(
            intent="refine",
            intent_confidence=0.9,
            slots=[
                slot(name="category", relation=slot.RELATION_IS, text="yogurt"),
                slot(name="category", relation=slot.RELATION_IS_NOT, text="strawberry"),
                slot(name="price", relation=slot.RELATION_AT_MOST, text="$3"),
            ],
        )
    )
    assert understood_text(answer) == (
        "refine (0.90): category yogurt, category not strawberry, price at most $3"
    )
