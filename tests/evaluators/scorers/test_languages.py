import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.scorers.languages import detect

SENTENCES = {
    "en": "The weather was fine, and they went for a walk with the dog.",
    "de": "Das Wetter war schön, und sie gingen mit dem Hund spazieren.",
    "fr": "Il faisait beau et nous sommes allés dans le parc avec le chien.",
    "es": "Hacía buen tiempo y los niños jugaban en el parque con la pelota.",
    "it": "Il tempo era bello e siamo andati nel parco con il cane che non abbaia.",
    "pt": "O tempo estava bom e as crianças não foram para a escola com os pais.",
    "nl": "Het weer was mooi en wij zijn met de hond naar het park gegaan.",
    "sv": "Det var fint väder och vi gick till parken med hunden som inte var trött.",
    "da": "Det var godt vejr, og de blev glade efter en tur af mig med hunden.",
    "no": "Det var fint vær, og de ble glade etter en tur av meg med hunden.",
    "fi": "Sää oli kaunis ja he olivat iloisia, että se ei ollut kylmä.",
    "pl": "Pogoda była ładna i nie było zimno, więc poszliśmy na spacer z psem.",
    "cs": "Počasí bylo krásné a šli jsme na procházku, protože se nám to líbilo.",
    "hu": "Az idő szép volt, és nem volt hideg, de csak egy kutya jött.",
    "ro": "Vremea a fost frumoasă și nu a fost frig, pentru că este vară.",
    "tr": "Hava güzeldi ve çok soğuk değildi ama bir köpek vardı.",
    "id": "Cuaca itu bagus dan kami tidak pergi ke taman dengan anjing yang besar.",
    "vi": "Thời tiết đẹp và chúng tôi đã đi dạo với con chó trong công viên.",
    "ru": "Погода была хорошая, и мы не пошли на работу, потому что это выходной.",
    "uk": "Погода була гарна, і ми не пішли на роботу, що це вихідний.",
    "ar": "كان الطقس جميلا في هذا اليوم من الأسبوع",
    "fa": "هوا خوب بود و ما با سگ به پارک رفتیم که این است",
    "zh": "今天天气很好，我们去公园散步。",
    "ja": "今日は天気が良くて、公園へ散歩に行きました。",
    "ko": "오늘은 날씨가 좋아서 공원에 갔어요.",
    "el": "Ο καιρός ήταν καλός και πήγαμε στο πάρκο.",
    "he": "מזג האוויר היה יפה והלכנו לפארק.",
    "hi": "मौसम अच्छा था और हम पार्क गए।",
    "th": "วันนี้อากาศดีและเราไปสวนสาธารณะ",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_told_by_its_language(language):
    assert detect(SENTENCES[language]) == language


@pytest.mark.parametrize("text", ["", "42", "ok", "Paris", "E = mc²", "https://a.b/c?d=e", "🙂🙂🙂", "!!!"])
def test_what_is_too_short_or_no_language_is_left_open(text):
    assert detect(text) is None


def test_a_foreign_quotation_does_not_change_the_language():
    assert detect(SENTENCES["de"] * 3 + " „The quick brown fox“ " + SENTENCES["ja"][:6]) == "de"


@given(st.text())
def test_any_text_has_a_known_language_or_none(text):
    assert detect(text) in {*SENTENCES, "bn", "ta", "te", "ka", "hy", "bg", "sr", "ur", None}
