"""Single sign-on with unmodified clients against a certified OpenID Provider (tests/e2e/identity-provider)."""
import base64
import html.parser
import http.server
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse

import pytest
import requests
from conftest import OPENSTACK, PORT, ROOT, eventually
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3

PROVIDER = ROOT / "tests/e2e/identity-provider"
PROVIDER_PORT = 9871
ISSUER = f"http://127.0.0.1:{PROVIDER_PORT}"
CALLBACK = f"http://127.0.0.1:{PORT}/identity/v3/auth/OS-FEDERATION/callback"
AUDIENCE = "urn:nacre"
CLI = {"client_id": "cli", "client_secret": "a secret of the cli"}


class Page(html.parser.HTMLParser):
    """The first form of a page."""

    def __init__(self, text):
        super().__init__()
        self.form, self.fields = None, {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "form" and self.form is None:
            self.form = attrs
        elif tag in ("input", "button") and self.form is not None and attrs.get("name"):
            self.fields[attrs["name"]] = attrs.get("value") or ""


class Browser:
    """Follows redirects and fills in forms, as a person would who is called so."""

    def __init__(self, name):
        self.http, self.name = requests.Session(), name

    def go(self, url):
        """The last page, and all forms that were sent."""
        answer, sent = self.http.get(url, timeout=20), []
        for _ in range(12):
            assert answer.status_code == 200, (answer.status_code, answer.url, answer.text)
            page = Page(answer.text)
            if page.form is None:
                return answer, sent
            fields = dict(page.fields)
            if "login" in fields:
                fields |= {"login": self.name, "password": "anything"}
            fields.pop("abort", None)
            action = urllib.parse.urljoin(answer.url, page.form.get("action") or answer.url)
            sent.append((action, fields))
            hidden = answer.headers.get("Referrer-Policy") == "no-referrer"
            parts = urllib.parse.urlsplit(answer.url)
            headers = {"Origin": "null" if hidden else f"{parts.scheme}://{parts.netloc}", "Sec-Fetch-Mode": "navigate",
                       "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}
            answer = self.http.post(action, data=fields, timeout=20, headers=headers)
        raise AssertionError("the forms never end")


@pytest.fixture(scope="module")
def provider():
    process = subprocess.Popen(["node", PROVIDER / "provider.mjs", str(PROVIDER_PORT), CALLBACK], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout.readline().strip() == "ready", "the provider does not start: make setup installs it"
        yield ISSUER
    finally:
        process.kill()
        process.wait()


class Federation:
    """The cloud, trusting the provider."""

    def __init__(self, cloud):
        self.short = token_of(ISSUER, resource="urn:short")  # good for a second: it ends while other tests run
        self.cloud, self.admin = cloud, cloud.admin
        self.http = requests.Session()
        self.http.headers["X-Auth-Token"] = self.admin.auth_token
        self.project = self.admin.identity.create_project(name="shared", domain_id="default")
        self.group = self.admin.identity.create_group(name="staff", domain_id="default")
        role = self.admin.identity.find_role("member", ignore_missing=False)
        self.put(f"projects/{self.project.id}/groups/{self.group.id}/roles/{role.id}")
        os_federation = "OS-FEDERATION/identity_providers/corp"
        self.put(os_federation, identity_provider={"enabled": True, "remote_ids": [ISSUER]})
        self.put("OS-FEDERATION/mappings/people", mapping={"rules": [
            {"remote": [{"type": "sub"}, {"type": "OIDC-name"}, {"type": "groups", "any_one_of": ["staff"]}],
             "local": [{"user": {"id": "{0}", "name": "{1}"}}, {"group": {"id": self.group.id}}]}]})
        self.put(f"{os_federation}/protocols/openid", protocol={"mapping_id": "people"})
        self.settings(access_tokens="jwt")

    def put(self, path, **body):
        answer = self.http.put(f"{self.cloud.auth_url}/{path}", json=body or None, timeout=20)
        assert answer.status_code in (201, 204), answer.text

    def settings(self, **more):
        body = {"issuer": ISSUER, "client_id": "nacre", "client_secret": "a secret of nacre", "audiences": [AUDIENCE, "nacre"], **more}
        url = f"http://127.0.0.1:{PORT}/nacre/v1/identity/providers/corp/protocols/openid/oidc"
        answer = self.http.put(url, json={"oidc": body}, timeout=20)
        assert answer.status_code == 200 and "a secret" not in answer.text, answer.text

    def bearer(self, token):
        return requests.post(f"{self.cloud.auth_url}/OS-FEDERATION/identity_providers/corp/protocols/openid/auth", timeout=20,
                             headers={"Authorization": f"Bearer {token}"})

    def cli(self, kind, *args, check=True, **options):
        """The unmodified `openstack` command with one of keystoneauth's plugins."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.cloud.folder), "OS_AUTH_TYPE": kind,
               "OS_AUTH_URL": self.cloud.auth_url, "OS_IDENTITY_PROVIDER": "corp", "OS_PROTOCOL": "openid",
               "OS_PROJECT_ID": self.project.id, "OS_IDENTITY_API_VERSION": "3", "OS_REGION_NAME": "RegionOne", **options}
        done = subprocess.run([OPENSTACK, *args, "-f", "json"], capture_output=True, text=True, timeout=120, env=env)
        if check:
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"
            return json.loads(done.stdout)
        return done


@pytest.fixture(scope="module")
def federation(cloud, provider):
    return Federation(cloud)


def token_of(provider, name="mia", **more):
    """An access token of the provider, by the password grant."""
    form = {"grant_type": "password", "username": name, "password": f"{name}'s", "scope": "openid profile", **more}
    answer = requests.post(f"{provider}/token", data=form, auth=tuple(CLI.values()), timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


def oidc_options(**more):
    return {"OS_CLIENT_ID": CLI["client_id"], "OS_CLIENT_SECRET": CLI["client_secret"], "OS_OPENID_SCOPE": "openid profile",
            "OS_DISCOVERY_ENDPOINT": f"{ISSUER}/.well-known/openid-configuration", **more}


def test_the_command_line_with_an_access_token(federation, provider):
    token = federation.cli("v3oidcaccesstoken", "token", "issue", OS_ACCESS_TOKEN=token_of(provider))
    assert token["project_id"] == federation.project.id
    user = federation.admin.identity.get_user(token["user_id"])
    assert user.name == "mia"
    networks = federation.cli("v3oidcaccesstoken", "network", "list", OS_ACCESS_TOKEN=token_of(provider))
    assert any(network["Name"] == "public" for network in networks)


def test_the_command_line_with_a_password(federation):
    token = federation.cli("v3oidcpassword", "token", "issue", OS_USERNAME="mia", OS_PASSWORD="mia's", **oidc_options())
    assert token["project_id"] == federation.project.id
    refused = federation.cli("v3oidcpassword", "token", "issue", OS_USERNAME="mia", OS_PASSWORD="no", check=False, **oidc_options())
    assert refused.returncode != 0


def test_the_command_line_as_a_client(federation):
    token = federation.cli("v3oidcclientcredentials", "token", "issue", **oidc_options())
    assert federation.admin.identity.get_user(token["user_id"]).name == "cli"


def test_the_command_line_with_a_device(federation):
    """The command shows an address; a person goes there with a browser and says yes."""
    env = {"PATH": os.environ["PATH"], "HOME": str(federation.cloud.folder), "OS_AUTH_TYPE": "v3oidcdeviceauthz",
           "OS_AUTH_URL": federation.cloud.auth_url, "OS_IDENTITY_PROVIDER": "corp", "OS_PROTOCOL": "openid",
           "OS_PROJECT_ID": federation.project.id, "OS_IDENTITY_API_VERSION": "3", "PYTHONUNBUFFERED": "1", **oidc_options()}
    process = subprocess.Popen([OPENSTACK, "token", "issue", "-f", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=env)
    lines = {"out": "", "err": ""}

    def read(name, stream):
        for line in stream:
            lines[name] += line

    readers = [threading.Thread(target=read, args=pair) for pair in (("out", process.stdout), ("err", process.stderr))]
    for reader in readers:
        reader.start()
    try:
        url = eventually("the address", 60, lambda: re.search(rf"{ISSUER}/device\S*user_code=\S+", lines["out"] + lines["err"])).group()
        Browser("mia").go(url)
        assert process.wait(60) == 0, lines
    finally:
        process.kill()
        process.wait()
        for reader in readers:
            reader.join()
    token = json.loads(lines["out"][lines["out"].index("{"):])
    assert token["project_id"] == federation.project.id


def test_a_browser_for_a_dashboard(federation):
    """What Horizon does: a redirect, a login at the provider, a form with the token."""
    origin = "http://localhost:9990/auth/websso/"
    got = {}

    class Dashboard(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.update(urllib.parse.parse_qsl(body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"welcome")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("localhost", 9990), Dashboard)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        start = f"{federation.cloud.auth_url}/auth/OS-FEDERATION/websso/openid?origin={urllib.parse.quote(origin)}"
        page, sent = Browser("mia").go(start)
        assert page.text == "welcome" and sent[-1][0] == origin
        denied = requests.get(start.replace("9990", "9991"), allow_redirects=False, timeout=20)
        assert denied.status_code == 401
        # Whom the mapping doesn't know comes as far as here and no further.
        stranger = requests.Session()
        with pytest.raises(AssertionError, match="401"):
            browser = Browser("guest")
            browser.http = stranger
            browser.go(start)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    auth = v3.Token(federation.cloud.auth_url, token=got["token"], project_id=federation.project.id)
    assert session.Session(auth=auth).get_project_id() == federation.project.id


def test_keystoneauths_own_browser_login(federation, tmp_path):
    """The v3websso plugin of the unmodified command line, with a browser that is a script."""
    script = tmp_path / "browser"
    script.write_text("#!/bin/sh\nprintf '%s' \"$1\" > \"$BROWSER_FILE\"\n")
    script.chmod(0o755)
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OS_AUTH_TYPE": "v3websso", "OS_AUTH_URL": federation.cloud.auth_url,
           "OS_IDENTITY_PROVIDER": "corp", "OS_PROTOCOL": "openid", "OS_PROJECT_ID": federation.project.id,
           "OS_IDENTITY_API_VERSION": "3", "BROWSER": f"{script} %s", "BROWSER_FILE": str(tmp_path / "url")}
    process = subprocess.Popen([OPENSTACK, "token", "issue", "-f", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=env)
    try:
        eventually("the command opens a browser", 60, lambda: (tmp_path / "url").exists() and (tmp_path / "url").read_text())
        Browser("mia").go((tmp_path / "url").read_text())
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert json.loads(out)["project_id"] == federation.project.id


def test_tokens_that_are_refused(federation, provider):
    good = token_of(provider)
    assert federation.bearer(good).status_code == 201
    header, payload, signature = good.split(".")

    def encode(document):
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    root = encode({**claims, "sub": "root", "name": "admin"})
    forged = {
        "another audience": token_of(provider, resource="urn:other"),
        "other claims": f"{header}.{root}.{signature}",
        "no signature": f"{encode({'alg': 'none', 'typ': 'JWT'})}.{root}.",
        "no token": "nonsense",
        "a token of this cloud": federation.admin.auth_token,
    }
    for what, token in forged.items():
        assert federation.bearer(token).status_code == 401, what
    assert federation.bearer(token_of(provider, "guest")).status_code == 401, "no rule lets guests in"


def test_introspection(federation, provider):
    """Tokens that only the provider can read: it is asked."""
    federation.settings(access_tokens="introspection")
    try:
        # The provider tells a client about its own opaque tokens only; this one is for a resource and so a JWT.
        assert federation.bearer("opaque").status_code == 401
    finally:
        federation.settings(access_tokens="jwt")


def test_unscoped_and_rescoped(federation, provider):
    auth = v3.OidcAccessToken(federation.cloud.auth_url, "corp", "openid", access_token=token_of(provider))
    unscoped = session.Session(auth=auth)
    access = auth.get_access(unscoped)
    assert not access.scoped and access.is_federated
    listed = unscoped.get(f"{federation.cloud.auth_url}/OS-FEDERATION/projects", authenticated=True).json()["projects"]
    assert [project["name"] for project in listed] == ["shared"]
    with pytest.raises(exceptions.Unauthorized):
        elsewhere = v3.Token(federation.cloud.auth_url, token=access.auth_token, project_name="admin", project_domain_id="default")
        session.Session(auth=elsewhere).get_token()


def test_an_expired_token(federation):
    claims = json.loads(base64.urlsafe_b64decode(federation.short.split(".")[1] + "=="))
    # A minute is forgiven, for clocks differ.
    eventually("the short token has ended", 75, lambda: time.time() > claims["exp"] + 61)
    assert federation.bearer(federation.short).status_code == 401
