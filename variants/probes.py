"""What every variant is measured with when it is built: texts to read and questions to answer, the same for all."""

from driftline.protocols import Messages

TEXTS: tuple[str, ...] = (
    "Glass is made by melting sand together with soda and lime in a furnace at about fifteen hundred degrees. The soda "
    "lowers the temperature at which the sand melts, and the lime keeps the finished glass from dissolving in water. "
    "While it is still soft it can be blown, pressed or drawn; afterwards it must cool slowly, or it cracks.",
    "The library will be closed from Monday to Wednesday while the heating is repaired. Books that fall due on these "
    "days may be returned on Thursday without a fee, and the box beside the entrance stays open. Readers who have "
    "reserved a room for Tuesday will be called by the end of this week.",
    "A binary search looks at the middle of a sorted list and throws away the half in which the wanted value cannot "
    "lie. It repeats this until one value is left. A list of a million entries is searched in twenty steps, because "
    "two multiplied by itself twenty times is a little more than a million.",
    "When the drought came the herds moved north along the river. The herders knew every well, and at night they told "
    "the children which of the stars rose over which pass. In the third month it rained at last, and the grass was "
    "green again before they had turned round.",
)
QUESTIONS: tuple[Messages, ...] = tuple(
    ({"role": "user", "content": text},)
    for text in (
        "What is the capital of France?",
        "Name three fruits.",
        "Why is the sky blue?",
        "How many days are in a week?",
    )
)
