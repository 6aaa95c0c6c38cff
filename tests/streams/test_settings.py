"""Settings are validated at start, all problems at once, with words that say what to change."""

import pytest

from streams.settings import ROLES, Settings, SettingsError, describe, parse_roles


def test_defaults_are_valid_and_local():
    settings = Settings.load({})
    assert settings.bootstrap == "127.0.0.1:9092"
    assert settings.metrics_host == "127.0.0.1"
    assert settings.topic("clicks") == "clicks"


def test_variables_are_read_and_overrides_win():
    settings = Settings.load({"FRESHET_PARTITIONS": "8", "FRESHET_LOG_JSON": "true", "HOME": "/x"}, bootstrap="k:1", arm=None)
    assert (settings.partitions, settings.log_json, settings.bootstrap, settings.arm) == (8, True, "k:1", "default")


def test_every_problem_is_named():
    with pytest.raises(SettingsError) as problem:
        Settings.load(
            {
                "FRESHET_PARTITIONS": "0",
                "FRESHET_LIST_SIZE": "many",
                "FRESHET_LIST_SIZ": "10",
                "FRESHET_SECURITY_PROTOCOL": "SASL_SSL",
                "FRESHET_QDRANT_URL": "qdrant:6333",
            }
        )
    text = str(problem.value)
    for word in ("FRESHET_PARTITIONS", "FRESHET_LIST_SIZE=", "FRESHET_LIST_SIZ:", "FRESHET_SASL_USERNAME", "http://"):
        assert word in text


def test_secrets_are_never_shown():
    settings = Settings.load(
        {
            "FRESHET_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "FRESHET_SASL_USERNAME": "me",
            "FRESHET_SASL_PASSWORD": "hunter2",
            "FRESHET_QDRANT_API_KEY": "s3cret",
        }
    )
    assert "hunter2" not in repr(settings)
    assert "s3cret" not in repr(settings)
    assert settings.connection.kafka_python()["sasl_plain_password"] == "hunter2"
    with pytest.raises(SettingsError) as problem:
        Settings.load({"FRESHET_QDRANT_API_KEY": "s3cret", "FRESHET_PARTITIONS": "x"})
    assert "s3cret" not in str(problem.value)


def test_model_settings_are_variables_too():
    name = "half_life_hours" if "half_life_hours" in Settings.load({}).model.__struct_fields__ else "alpha"
    assert name in Settings.load({}).model.__struct_fields__
    with pytest.raises(SettingsError, match="FRESHET_MODEL_NONSENSE"):
        Settings.load({"FRESHET_MODEL_NONSENSE": "1"})


@pytest.mark.parametrize(("text", "number"), [(".5", 0.5), ("0.5", 0.5), ("1.", 1.0), (" .25 ", 0.25), ("1", 1.0), ("5e-1", 0.5)])
def test_numbers_may_be_written_as_people_write_them(text, number):
    assert Settings.load({"FRESHET_MODEL_ALPHA": text}).model.alpha == number
    assert Settings.load({"FRESHET_COMMIT_INTERVAL_S": text}).commit_interval_s == number


def test_whole_numbers_may_have_spaces_round_them():
    assert Settings.load({"FRESHET_PARTITIONS": " 8 "}).partitions == 8


def test_lists_of_numbers_too():
    assert Settings.load({"FRESHET_MODEL_HALF_LIVES_HOURS": ".5, 12,24."}).model.half_lives_hours == (0.5, 12.0, 24.0)
    assert Settings.load({"FRESHET_STATE_DIR": ".5"}).state_dir == ".5", "a text is left as it is"


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("FRESHET_MODEL_ALPHA", "much", "FRESHET_MODEL_ALPHA='much': a number is needed"),
        ("FRESHET_MODEL_ALPHA", ".", "FRESHET_MODEL_ALPHA='.': a number is needed"),
        ("FRESHET_PARTITIONS", "4.5", "FRESHET_PARTITIONS='4.5': a whole number is needed"),
        ("FRESHET_SNAPSHOTS", "maybe", "FRESHET_SNAPSHOTS='maybe': true or false is needed"),
        ("FRESHET_MODEL_HALF_LIVES_HOURS", "12,long", "a number is needed"),
        ("FRESHET_PARTITIONS", "0", "FRESHET_PARTITIONS='0': Expected `int` >= 1"),
    ],
)
def test_what_does_not_parse_is_said_in_words(variable, text, said):
    with pytest.raises(SettingsError) as problem:
        Settings.load({variable: text})
    assert said in str(problem.value)
    assert "got `str`" not in str(problem.value)


def test_roles():
    assert parse_roles(None) == ROLES
    assert parse_roles("attribute,recommend,ingest") == ("ingest", "recommend", "attribute")
    assert parse_roles("embed") == ("embed",)
    for wrong in ("", "cook", "recommend", "attribute", "ingest,embed"):
        with pytest.raises(SettingsError):
            parse_roles(wrong)


def test_every_setting_says_what_it_means():
    rows = describe()
    assert len(rows) > 30
    assert all(meaning for _, _, _, meaning in rows)
