"""Filters of LangChain's stores become filters of ours, or are refused."""

import pytest

from embedfleet.integrations.langchain_filters import in_our_language
from embedfleet_schema.errors import BadFilter


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {}),
        ({"lang": "en"}, {"lang": "en"}),
        ({"lang": "en", "n": 1}, {"and": [{"lang": "en"}, {"n": 1}]}),
        ({"n": {"$gte": 1, "$lt": 5}}, {"and": [{"n": {"gte": 1}}, {"n": {"lt": 5}}]}),
        ({"n": {"$between": [1, 5]}}, {"n": {"gte": 1, "lte": 5}}),
        ({"n": {"$ne": 1}}, {"not": {"n": {"eq": 1}}}),
        ({"n": {"$nin": [1]}}, {"not": {"n": {"in": [1]}}}),
        ({"n": {"$exists": False}}, {"n": {"exists": False}}),
        ({"$not": {"n": 1}}, {"not": {"n": 1}}),
        (
            {"$or": [{"n": {"$in": [1]}}, {"$and": [{"a": 1}]}]},
            {"or": [{"n": {"in": [1]}}, {"and": [{"a": 1}]}]},
        ),
        # Of ours, all stays as it is: paths, operators, objects.
        ({"$.of.day": {"gte": "2024-01-01"}}, {"$.of.day": {"gte": "2024-01-01"}}),
        ({"or": [{"document": {"prefix": "a"}}]}, {"or": [{"document": {"prefix": "a"}}]}),
        ({"tags": {"contains": ["$a"]}}, {"tags": {"contains": ["$a"]}}),
        ({"empty": {}}, {"empty": {}}),
    ],
)
def test_an_operator_of_theirs_becomes_one_of_ours(given, wanted):
    assert wanted == in_our_language(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lang": {"$like": "e%"}}, r"\$like is no operator; there are \$eq, "),
        ({"$nor": []}, r"\$nor is no operator"),
        ({"$or": {"n": 1}}, r"\$and and \$or take a list"),
        ({"$or": ["n"]}, "'n' is no filter"),
        ({"$not": 3}, "3 is no filter"),
        ({"n": {"$between": [1]}}, r"\$between takes two values"),
    ],
)
def test_what_has_no_equal_is_refused(given, said):
    with pytest.raises(BadFilter, match=said):
        in_our_language(given)
