"""Which language is a text in? By its script, and for scripts of many languages by its commonest words and letters."""

import re
from collections import Counter
from collections.abc import Set
from functools import lru_cache

from evaluators.scorers.words import words

ENOUGH_LETTERS = 4
ENOUGH_WORDS = 2  # common words that a guess among languages of one script needs
READ = 2000  # characters that are looked at

_SCRIPTS = (  # first and last letter of each block
    ("latin", "A", "Z"), ("latin", "a", "z"), ("latin", "\u00c0", "\u024f"), ("latin", "\u1e00", "\u1eff"),
    ("el", "\u0370", "\u03ff"), ("cyrillic", "\u0400", "\u052f"), ("hy", "\u0530", "\u058f"),
    ("he", "\u0590", "\u05ff"), ("arabic", "\u0600", "\u06ff"), ("arabic", "\u0750", "\u077f"),
    ("hi", "\u0900", "\u097f"), ("bn", "\u0980", "\u09ff"), ("ta", "\u0b80", "\u0bff"), ("te", "\u0c00", "\u0c7f"),
    ("th", "\u0e00", "\u0e7f"), ("ka", "\u10a0", "\u10ff"), ("ko", "\u1100", "\u11ff"), ("kana", "\u3040", "\u30ff"),
    ("han", "\u3400", "\u4dbf"), ("han", "\u4e00", "\u9fff"), ("ko", "\uac00", "\ud7af"),
)  # fmt: skip

_COMMON = {
    "latin": {
        "en": "the and of to is in that it was for you are with this be have not on as but what can will from they",
        "de": "der die das und ist nicht ein eine zu mit den von sich auf für dem es ich im auch sie wird als oder wie",
        "fr": "le la les et est des un une du que dans pour pas qui sur vous au ce avec il nous plus sont je par",
        "es": "el la los las es de que en un una por con para no se del lo como más su pero al está son",
        "it": "il la di che un una per non del della con sono si le gli nel ma da come più anche questo",
        "pt": "os as de que em um uma para com não do da no na se por mais como dos são você",
        "nl": "de het een en van is niet dat op te in met voor zijn die aan ook er als maar bij worden kan ik",
        "sv": "och att det är en ett som på för inte med av den till har jag om de kan från vi men du så var",
        "da": "og at det er en et som på for ikke med af den til har jeg om de fra der blev hvad mig noget efter meget",
        "no": "og at det er en et som på for ikke med av den til har jeg om de fra der ble hva meg noe etter mye",
        "fi": "ja on ei se että hän oli olla mutta ovat kuin tai joka myös voi minä sinä niin kun tämä mitä",
        "pl": "na nie się to jest że do jak co po dla za od ale przez czy tym są może jego lub",
        "cs": "na se je že to do jak pro by jako ale od po za jsou nebo není být",
        "hu": "az és hogy nem is egy ez van volt de meg csak ha vagy mint már el még ki azt lesz",
        "ro": "și în de la cu pe nu este un care din pentru că se mai ce sunt au sau fi ca ale prin",
        "tr": "ve bir bu da de için ile çok ne daha olarak gibi var ama olan değil mi en sonra kadar ben sen",
        "id": "yang dan di dengan untuk tidak ini itu dari dalam adalah pada ke akan bisa juga atau ada saya anda",
        "vi": "là và của có không một được cho các trong này với để người những đã tôi bạn như khi",
    },
    "cyrillic": {
        "ru": "и в не на что это с как по но из для то все так от же вы он ли ы э",
        "uk": "і в не на що це з як та до є але від для про якщо він ви й її також може",
        "bg": "и в не на че това с как по но от за се да са е ще във която който също",
        "sr": "и у не на што то са као по али од за се да је су који која или",
    },
    "arabic": {
        "ar": "في من على أن إلى هذا هو ما لا التي عن مع هل كان أو هذه الذي قد",
        "fa": "در از که به این است را با برای آن یک می های شما هم بود کرد شود",
        "ur": "کے میں کی ہے سے کا کو اور نے پر یہ ہیں کہ بھی نہیں ایک",
    },
}
_LETTERS = {  # letters that no other language of the script here uses
    "latin": {
        "de": "ß", "es": "ñ¿¡", "pt": "ãõ", "pl": "łżźćśęą", "cs": "řěů", "hu": "őű", "ro": "țș", "tr": "ğıİ",
        "vi": "ơưđạảấầẩậắằặẹẻếềểệỉịọỏốồổộớờởợụủứừửựỳỵỷ",
    },
    "cyrillic": {"ru": "ыэё", "uk": "іїєґ", "sr": "ђћџљњј"},
    "arabic": {"fa": "پچژگ", "ur": "ٹڈڑےھں"},
}  # fmt: skip


_LATIN = re.compile(rf"(?:[A-Za-z][^A-Za-z]*){{{ENOUGH_LETTERS}}}")


def detect(text: str) -> str | None:
    """The ISO 639-1 code of the language most of a text is in, None where it is too short or too unlike any known.

    Args:
        text: Its first 2000 characters are looked at.

    >>> detect("Der schnelle Fuchs springt über den faulen Hund, und das ist nicht neu.")
    'de'
    >>> detect("42") is None
    True
    """
    if text.isascii():  # one script, and no letter that tells
        return _by_words(words(text[:READ]), frozenset(), "latin") if _LATIN.search(text, 0, READ) else None
    characters = Counter(text[:READ].lower())
    letters: Counter[str] = Counter()
    for character, count in characters.items():
        letters[_script(character)] += count
    letters[""] = 0
    if letters["kana"] > 0 and letters["han"] <= 10 * letters["kana"]:  # Japanese writes both
        letters["kana"] += letters.pop("han", 0)
    script, seen = letters.most_common(1)[0]
    if seen < (1 if script in ("han", "kana") else ENOUGH_LETTERS):
        return None
    if script in _COMMON:
        return _by_words(words(text[:READ]), characters.keys(), script)
    return {"kana": "ja", "han": "zh"}.get(script, script)


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    return next((script for script, first, last in _SCRIPTS if first <= character <= last), "")


def _by_words(said: list[str], characters: Set[str], script: str) -> str | None:
    seen: dict[str, int] = {}
    speakers = _SPEAKERS[script]
    for word in filter(speakers.__contains__, said):
        for language in speakers[word]:
            seen[language] = seen.get(language, 0) + 1
    for letter in characters and characters & _TELLING[script].keys():
        language = _TELLING[script][letter]
        seen[language] = seen.get(language, 0) + 2
    hits = max(seen.values(), default=0)
    best = [language for language, count in seen.items() if count == hits]
    return best[0] if hits >= ENOUGH_WORDS and len(best) == 1 else None


def _speakers(common: dict[str, str]) -> dict[str, list[str]]:
    speakers: dict[str, list[str]] = {}
    for language, text in common.items():
        for word in set(words(text)):
            speakers.setdefault(word, []).append(language)
    return speakers


_SPEAKERS = {script: _speakers(common) for script, common in _COMMON.items()}
_TELLING = {
    script: {letter: language for language, letters in of.items() for letter in letters}
    for script, of in _LETTERS.items()
}
