"""The table of categories: whole, and usable in a sentence."""

from rrec_lib.data.amazon.categories import NOUNS, item_noun


def test_all_categories_of_the_published_set_are_there():
    assert len(NOUNS) == 33
    assert {"Musical_Instruments", "CDs_and_Vinyl", "Video_Games", "Electronics", "Books"} <= set(NOUNS)
    for name, noun in NOUNS.items():
        assert noun == noun.strip() != ""
        assert not noun.endswith("s"), name  # the plural takes an s
        assert "_" not in noun
        assert not [other for other in NOUNS if other != name and other.startswith(f"{name}_")]  # a name is found once


def test_a_sample_s_name_finds_its_category_and_a_stranger_is_an_item():
    assert item_noun("Video_Games") == "video game"
    assert item_noun("Office_Products_2018") == "office product"
    assert item_noun("CDs_and_Vinyl_2023micro") == "album"
    assert item_noun("Books2") == item_noun("Generated") == item_noun("") == "item"
