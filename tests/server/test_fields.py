"""Tests of which request fields are used, accepted or refused."""

import pytest
from openai.types import completion_create_params as completion
from openai.types.chat import completion_create_params as chat

from tunesmith_server.errors import InvalidRequestError
from tunesmith_server.fields import CHAT, COMPLETION, Handling, used_fields
from tunesmith_server.protocol import ChatRequest, CompletionRequest

TABLES = [("chat", CHAT, ChatRequest), ("completion", COMPLETION, CompletionRequest)]
REFUSED = [
    (kind, rules, name) for kind, rules, _ in TABLES for name in rules if rules[name].handling is Handling.REFUSED
]


@pytest.mark.parametrize(("params", "rules"), [(chat, CHAT), (completion, COMPLETION)])
def test_every_field_of_openais_client_is_decided(params, rules):
    """No parameter that the client can send is missing in the table."""
    assert set(params.CompletionCreateParamsBase.__annotations__) | {"stream"} <= set(rules)


@pytest.mark.parametrize(("rules", "model"), [(rules, model) for _, rules, model in TABLES])
def test_a_used_field_is_a_field_of_the_request(rules, model):
    """The table and the request model agree on what is used."""
    assert {name for name in rules if rules[name].handling is Handling.USED} == set(model.model_fields)


@pytest.mark.parametrize(("kind", "rules", "name"), REFUSED)
def test_a_refused_field_passes_only_when_it_asks_for_nothing(kind, rules, name):
    """Null and the neutral values pass and are dropped; anything else names the field."""
    for neutral in (None, *rules[name].neutral):
        assert used_fields({name: neutral}, rules) == {}
    with pytest.raises(InvalidRequestError) as caught:
        used_fields({name: {"some": "thing"}}, rules)
    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


def test_a_neutral_value_has_the_right_type():
    """`0` is not `false` and `true` is not `1`: what only looks neutral is refused."""
    for body in ({"echo": 0}, {"best_of": True}):
        with pytest.raises(InvalidRequestError):
            used_fields(body, COMPLETION)


def test_an_unknown_field_is_refused_by_name():
    """A misspelt parameter is an error, not ignored."""
    with pytest.raises(InvalidRequestError) as caught:
        used_fields({"model": "m", "temprature": 0}, CHAT)
    assert (caught.value.param, caught.value.code) == ("temprature", "unknown_parameter")


def test_bookkeeping_fields_are_accepted():
    """Fields that cannot change the answer pass."""
    assert used_fields({"model": "m", "user": "u", "metadata": {"a": "b"}, "store": True}, CHAT) == {"model": "m"}
