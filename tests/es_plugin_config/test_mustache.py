from __future__ import annotations

import pytest

from es_plugin_config.mustache import SearchTemplateError, render


def test_a_value_is_escaped_for_json_unless_it_has_three_braces():
    assert render('{"q": "{{query}}"}', {"query": 'a "b" \\ c\n'}) == {"q": 'a "b" \\ c\n'}
    assert render('{"q": {{{raw}}}}', {"raw": '{"a": 1}'}) == {"q": {"a": 1}}


def test_sections_keep_what_they_enclose_when_the_value_is_there_or_not():
    source = '{"size": {{size}}{{^size}}100{{/size}}, "f": [{{#c}}"{{c}}"{{/c}}]}'
    assert render(source, {"size": 5, "c": "x"}) == {"size": 5, "f": ["x"]}
    assert render(source, {"c": ""}) == {"size": 100, "f": []}


def test_sections_may_stand_inside_sections():
    source = '{"a": [{{#x}}1{{#y}}, 2{{/y}}{{^y}}, 3{{/y}}{{/x}}]}'
    assert render(source, {"x": True, "y": True}) == {"a": [1, 2]}
    assert render(source, {"x": True}) == {"a": [1, 3]}
    assert render(source, {"y": True}) == {"a": []}


def test_lists_and_flags_become_json():
    assert render('{"v": {{#toJson}}v{{/toJson}}}', {"v": [0.5, -1.0]}) == {"v": [0.5, -1.0]}
    assert render('{"on": {{on}}}', {"on": True}) == {"on": True}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('{"a": {{a}}}', "want JSON; a parameter may be missing"),
        ("{{#a}}{}", "got no end of 'a', want it closed"),
        ("{}{{/a}}", "got the end of 'a', want that of None"),
        ("{{#a}}{{/b}}", "got the end of 'b', want that of 'a'"),
        ("[]", "got list, want an object"),
    ],
)
def test_a_template_that_gives_no_search_is_refused(source, message):
    with pytest.raises(SearchTemplateError, match=message):
        render(source, {})
