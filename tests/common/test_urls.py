"""Secrets in URLs: refused in params.yaml, hidden in messages."""

import pytest
import yaml
from projects import run, set_params

from pipeline.common.errors import PipelineError
from pipeline.common.params import read_params
from pipeline.common.urls import check_url, hide_secrets, shown_url
from pipeline.download import DownloadParams


@pytest.mark.parametrize(
    "url",
    [
        "https://host/a.tar.gz",
        "http://host:8080/a.tar.gz?download=1",
        "https://host/a.tar.gz?raw=true&dl=1",
        "https://host/a.tar.gz?{ARCHIVE_QUERY}",
        "https://host/a.tar.gz?sig={SIGNATURE}&dl=1",
        "https://{LOGIN}@host/a.tar.gz",
        "https://{USER}:{PASSWORD}@host/a.tar.gz",
        "https://host/npm/a%401.0/a.tar.gz",
        "file:///data/me@home/a.tar.gz",
    ],
)
def test_a_url_without_secrets_is_accepted(url):
    assert check_url(url) == url


LOGIN = r"should not contain a login: put it in ~/.netrc, or write https://\{NAME\}@host"
QUERY = r"should not contain a query that may be secret: write https://host/file\?\{NAME\}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://user:SECRET@host/a", LOGIN),
        ("https://SECRET@host/a", LOGIN),
        ("https://SECRET:@host/a", LOGIN),
        ("https://user:{PASSWORD}@host/a", LOGIN),
        ("https://{USER}:SECRET@host/a", LOGIN),
        ("https://user:a/SECRET@host/a", LOGIN),
        ("https://user:a?SECRET@host/a", LOGIN),
        ("https://user:a b'SECRET@host/a", LOGIN),
        ("https://host/a?X-Amz-Signature=SECRET", QUERY),
        ("https://host/a?dl=1&X-Amz-Credential=SECRET", QUERY),
        ("https://host/a?X-Amz-Security-Token=SECRET", QUERY),
        ("https://host/a?Signature=SECRET", QUERY),
        ("https://host/a?se=1&sig=SECRET", QUERY),
        ("https://host/a?%73ig=SECRET", QUERY),
        ("https://host/a?AWSAccessKeyId=SECRET", QUERY),
        ("https://host/a?access_token=SECRET", QUERY),
        ("https://host/a?api_key=SECRET", QUERY),
        ("https://host/a?password=SECRET", QUERY),
        ("https://host/a?authorization=SECRET", QUERY),
        ("https://host/a?sig=SECRET{REST}", QUERY),
        ("https://host/a?dl=1;token=SECRET", QUERY),
        ("https://host/a?x=0123456789SECRET0123", QUERY),
        ("https://host/a?0123456789SECRET0123", QUERY),
        ("https://host/a#token=SECRET", QUERY),
        ("https://host/a?dl=1#0123456789SECRET0123", QUERY),
        ("https://host/a?${SECRET}", r"should name an environment variable as \{NAME\}, without `\$`"),
        ("ftp://user:SECRET@host/a", "should start with http://"),
        ("user:SECRET@host/a", "should start with http://"),
        ("host/a?sig=SECRET", "should start with http://"),
        (" https://user:SECRET@host/a?sig=SECRET", "should start with http://"),
        ("sftp://user:SEC\nRET@host/a?x=a@SECRET", "should start with http://"),
    ],
)
def test_a_url_with_a_secret_is_refused_and_the_secret_is_not_shown(project, url, message):
    section = read_params(project / "params.yaml")["download"] | {"urls": ["file:///a", url]}
    with pytest.raises(PipelineError, match=rf"download.urls.1 is '[^']*', but it {message}") as refusal:
        DownloadParams.of_section("download", section)
    assert "SECRET" not in str(refusal.value)
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    "content",
    [
        "download: https://user:SECRET@host/a\n",
        "download: {urls: 'https://user:SECRET@host/a?sig=SECRET'}\n",
        "download: {urls: [{'https://user:SECRET@host/a': 'https://host/a?sig=SECRET'}, 3]}\n",
        "download: {'https://user:SECRET@host/a': 1}\n",
        "download: {sha256: 'https://user:SECRET@host/a'}\n",
        "- https://user:SECRET@host/a\n",
        "download:\n  urls:\n  - https://user:SECRET@host/a: b: c\n",
        "download:\n  urls:\n  - 'https://user:SECRET@host/a\n",
    ],
)
def test_a_secret_in_the_wrong_place_of_params_is_not_shown(project, content):
    (project / "params.yaml").write_text(content)
    for command in (("pipeline.download", "archive=a.tar.gz"), ("pipeline.check_params",)):
        done = run(project, *command)
        assert done.returncode == 1
        assert done.stdout == ""
        assert "params.yaml" in done.stderr
        assert "SECRET" not in done.stderr
        assert "Traceback" not in done.stderr


def test_a_secret_is_not_shown_if_another_key_is_wrong(project):
    set_params(project, download={"urls": ["https://user:SECRET@host/a"], "attempts": 0})
    done = run(project, "pipeline.download", "archive=a.tar.gz")
    assert (done.returncode, done.stdout) == (1, "")
    assert "download.urls.0 is 'https://***@host/a', but it should not contain a login" in done.stderr
    assert "download.attempts is 0" in done.stderr
    assert "SECRET" not in done.stderr


def test_a_params_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"download: \xff\n")
    with pytest.raises(PipelineError, match=r"(?s)is not YAML: .*position 10"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://host/a.tar.gz", "https://host/a.tar.gz"),
        ("https://{LOGIN}@host/a?{QUERY}", "https://***@host/a?***"),
        ("https://user:a@b@host/a#c", "https://***@host/a#***"),
        ("https://host/a?mail=a@b&sig=c", "https://***"),
        ("user:password@host", "***@host"),
        ("https://user:pa/ss@host:5000/x", "https://***@host:5000/x"),
        ("https://user:p?x@host", "https://***"),
        ("postgresql+psycopg://user:pw@host/db?sslpassword=secret", "postgresql+psycopg://***@host/db?***"),
        ("git@host:team/repository.git", "***@host:team/repository.git"),
        ("/folder/repository", "/folder/repository"),
        ("file:///home/me/a.tar.gz", "file:///home/me/a.tar.gz"),
        ("plain text", "plain text"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_url(text, hidden):
    assert hide_secrets(text) == hidden


def test_a_shown_url_has_no_control_characters():
    assert shown_url("file:///a\x1b[2J\n") == r"file:///a\x1b[2J\n"


def test_a_set_params_value_of_dvc_leaves_variables_as_they_are(project):
    """`dvc exp run -S` reads params.yaml with OmegaConf, which replaces `${NAME}` but not `{NAME}`."""
    from dvc.utils.hydra import apply_overrides

    set_params(project, download={"urls": ["https://{LOGIN}@host/a?{QUERY}"]})
    apply_overrides(project / "params.yaml", ["train.epochs=7"])
    params = yaml.safe_load((project / "params.yaml").read_text())
    assert (params["train"]["epochs"], params["download"]["urls"]) == (7, ["https://{LOGIN}@host/a?{QUERY}"])
