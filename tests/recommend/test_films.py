"""The recommender for people."""

import pytest

from rrec_lib.model.prompts import item_name
from rrec_lib.recommend.films import load_recommender, typed_example


def test_a_typed_history_ends_yesterday():
    example = typed_example([4, 7], [3.0, 5.0])
    assert example["target_timestamp"] - example["history_timestamps"][-1] == 86400
    with pytest.raises(ValueError, match="2 films need 2 ratings"):
        typed_example([4, 7], [3.0])


def test_the_prompt_shows_the_window_and_the_whole_history_is_seen():
    example = typed_example([4, 7, 9], [3.0, 5.0, 1.0], window=2)
    assert (example["history"], example["history_ratings"], example["seen"]) == ([7, 9], [5.0, 1.0], [4, 7, 9])
    assert example["target_timestamp"] - example["history_timestamps"][0] == 2 * 86400


def test_a_whole_catalogue_leaves_nothing_to_recommend(smoke_dataset, smoke_profile):
    recommender = load_recommender(smoke_profile, dataset=smoke_dataset)
    with pytest.raises(ValueError, match="none is left"):
        recommender.recommend([item_name(item) for item in smoke_dataset["items"]])
