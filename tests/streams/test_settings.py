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
