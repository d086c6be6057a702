"""kd suggest-shapes --model-id against a hub on this machine and against caches on disk."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from tests.support.fake_hub import COMMIT, FakeHub, File

KD = os.environ["MLX_KD_PROGRAM"]
CONFIG = json.dumps({"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336})
SHA256 = hashlib.sha256(CONFIG.encode()).hexdigest()


class HubTest(unittest.TestCase):
    def setUp(self):
        if not shutil.which("curl"):
            self.skipTest("curl is not installed")
        self.temp = Path(tempfile.mkdtemp(prefix="kd_hub_"))
        self.addCleanup(shutil.rmtree, self.temp, ignore_errors=True)
        self.hub = FakeHub({"org/good": File(CONFIG)})
        self.addCleanup(self.hub.close)
        self.cache = self.temp / "cache"

    def command(self, model, *options, verb=None, **variables):
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        env = {name: value for name, value in env.items() if not name.startswith("HF_")}
        env.update(HOME=str(self.temp), HF_ENDPOINT=self.hub.address, HF_HUB_CACHE=str(self.cache))
        env.update(variables)
        verb = verb or ("suggest-shapes", "--model-id", model, "--op", "rmsnorm")
        return subprocess.Popen([KD, *verb, *options], cwd=self.temp, env=env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def suggest(self, model, *options, code=0, **variables):
        process = self.command(model, *options, **variables)
        process.out, process.err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, code, process.err)
        return process

    def fails(self, model, *words, code, options=(), **variables):
        process = self.suggest(model, *options, code=code, **variables)
        self.assertEqual(process.out, "")
        for word in words:
            self.assertIn(word, process.err)
        return process

    def folder(self, model="org/good"):
        return self.cache / ("models--" + model.replace("/", "--"))

    def paths(self):
        return [(method, path) for method, path, _ in self.hub.requests]


class Fetching(HubTest):
    def test_a_config_is_fetched_once_and_kept_as_the_hubs_own_tools_keep_it(self):
        first = self.suggest("org/good", "--json")
        self.assertEqual(json.loads(first.out)["model"]["commit"], COMMIT)
        self.assertIn("fetching config.json of org/good", first.err)
        file = self.folder() / "snapshots" / COMMIT / "config.json"
        self.assertEqual(file.read_text(), CONFIG)
        self.assertEqual((self.folder() / "refs" / "main").read_text(), COMMIT)
        etag = self.hub.files["org/good"].etag
        self.assertEqual(os.readlink(file), f"../../blobs/{etag}")
        self.assertEqual([p.name for p in (self.folder() / "blobs").iterdir()], [etag])
        asked = len(self.hub.requests)
        self.assertEqual(self.suggest("org/good", "--json").out, first.out)
        self.assertEqual(len(self.hub.requests), asked)

    def test_bytes_on_another_host_are_followed_and_the_token_stays_behind(self):
        self.hub.files["org/linked"] = File(CONFIG, etag=SHA256, elsewhere="localhost")
        self.suggest("org/linked", HF_TOKEN="hf_secret")
        told = {path.startswith("/bytes"): headers.get("Authorization") for _, path, headers in self.hub.requests}
        self.assertEqual(told, {False: "Bearer hf_secret", True: None})
        self.assertTrue((self.folder("org/linked") / "blobs" / SHA256).is_file())

    def test_a_transfer_that_breaks_off_is_continued(self):
        self.hub.files["org/cut"] = File(CONFIG, cuts=[20, 10])
        self.suggest("org/cut")
        ranges = [headers.get("Range") for method, _, headers in self.hub.requests if method == "GET"]
        self.assertEqual(ranges, [None, "bytes=20-", "bytes=30-"])

    def test_what_an_earlier_fetch_left_is_continued(self):
        file = self.hub.files["org/cut"] = File(CONFIG, cuts=[20, 3, 3])
        self.fails("org/cut", "cannot reach", code=1)
        self.assertTrue((self.folder("org/cut") / "blobs" / (file.etag + ".incomplete")).is_file())
        self.hub.requests.clear()
        self.suggest("org/cut")
        self.assertIn("bytes=26-", [headers.get("Range") for _, _, headers in self.hub.requests])

    def test_a_busy_hub_is_asked_again(self):
        self.hub.files["org/busy"] = File(CONFIG, busy=2)
        self.suggest("org/busy")
        self.hub.files["org/busier"] = File(CONFIG, busy=99)
        self.fails("org/busier", "503", "try again later", code=1)

    def test_other_bytes_than_announced_are_not_kept(self):
        self.hub.files["org/wrong"] = File(CONFIG, etag=SHA256, wrong=True)
        self.fails("org/wrong", "not what it announced", code=1)
        self.assertEqual(list((self.folder("org/wrong") / "blobs").iterdir()), [])

    def test_a_revision_has_its_own_commit(self):
        self.hub.files["org/good"].revisions = ("main", "pr/1")
        self.suggest("org/good", "--revision", "pr/1")
        self.assertEqual((self.folder() / "refs" / "pr" / "1").read_text(), COMMIT)
        self.assertIn(("HEAD", "/org/good/resolve/pr%2F1/config.json"), self.paths())

    def test_the_token_of_a_login_is_used(self):
        (self.temp / "token").write_text("hf_written\n")
        self.suggest("org/good", HF_TOKEN_PATH=str(self.temp / "token"))
        self.assertEqual(self.hub.requests[0][2]["Authorization"], "Bearer hf_written")

    def test_several_at_once_fetch_it_whole(self):
        processes = [self.command("org/good") for _ in range(4)]
        for process in processes:
            _, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, err)
        self.assertEqual(len([p for p in self.paths() if p[0] == "GET"]), 1)


class Refusals(HubTest):
    def test_a_model_that_is_not_there(self):
        self.fails("org/none", "there is no model 'org/none'", "HF_TOKEN", code=2)

    def test_a_gated_model_says_how_to_log_in(self):
        self.hub.files["org/gated"] = File(CONFIG, refuse=(403, "GatedRepo"))
        self.fails("org/gated", "gated", f"{self.hub.address}/org/gated", "hf auth login", "HF_TOKEN", code=1)

    def test_a_tuning_says_the_same(self):
        self.hub.files["org/gated"] = File(CONFIG, refuse=(403, "GatedRepo"))
        for model, words, code in (("org/gated", "hf auth login", 1), ("org/none", "there is no model 'org/none'", 2)):
            process = self.command(model, verb=("tune-model", model, "--out", str(self.temp / "out")))
            _, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, code, errors)
            self.assertIn(words, errors)
        self.assertFalse((self.temp / "out").exists())

    def test_a_token_that_is_refused(self):
        self.hub.files["org/closed"] = File(CONFIG, refuse=(401, ""))
        process = self.fails("org/closed", "refuses", "log in", code=1, HF_TOKEN="hf_secret")
        self.assertNotIn("hf_secret", process.err)

    def test_a_revision_or_a_file_that_is_not_there(self):
        self.fails("org/good", "no revision 'v9'", code=2, options=("--revision", "v9"))
        self.hub.files["org/empty"] = File(CONFIG, refuse=(404, "EntryNotFound"))
        self.fails("org/empty", "no config.json", code=2)

    def test_no_network(self):
        self.fails("org/good", "cannot reach http://127.0.0.1:1", "--local-files-only", code=1,
                   HF_ENDPOINT="http://127.0.0.1:1")
        self.fails("org/good", "cannot reach", code=1, HF_ENDPOINT="http://no-such-host.invalid")

    def test_a_hub_that_never_answers_is_given_up(self):
        self.hub.files["org/silent"] = File(CONFIG, silent=True)
        start = time.monotonic()
        self.fails("org/silent", "cannot reach", code=1, HF_HUB_ETAG_TIMEOUT="0.3")
        self.assertLess(time.monotonic() - start, 30)

    def test_ctrl_c_ends_a_fetch(self):
        self.hub.files["org/silent"] = File(CONFIG, silent=True)
        process = self.command("org/silent")
        while not self.hub.requests and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)

    def test_a_server_that_is_no_hub(self):
        self.hub.files["org/good"].etag = "../../etc"
        self.fails("org/good", "not a Hugging Face hub", code=1)

    def test_a_file_too_large_for_a_config(self):
        self.hub.files["org/big"] = File("x" * (17 << 20))
        self.fails("org/big", "larger than 16 MiB", code=1)

    def test_what_is_no_id_asks_nobody(self):
        for name in ("org/..", "../x", "a/b/c", "org/na me", "org/--x", "-x", "org/", "/", "org\\x", "x" * 200,
                     "models--org--good", "org/good?x", "org/good%2F"):
            self.fails("--model-id=" + name if name.startswith("-") else name, "", code=2)
        self.fails("org/good", "not a revision", code=2, options=("--revision", "../../x"))
        self.assertEqual(self.hub.requests, [])

    def test_a_cache_that_cannot_be_written(self):
        (self.temp / "file").write_text("")
        self.fails("org/good", "HF_HUB_CACHE", code=1, HF_HUB_CACHE=str(self.temp / "file"))

    def test_variables_that_cannot_be_meant(self):
        for name, value in (("HF_HUB_OFFLINE", "maybe"), ("HF_ENDPOINT", "ftp://x"), ("HF_HUB_ETAG_TIMEOUT", "soon"),
                            ("HF_HUB_DOWNLOAD_TIMEOUT", "-1"), ("HF_TOKEN", "two words")):
            self.fails("org/good", name, code=2, **{name: value})
        self.assertEqual(self.hub.requests, [])

    def test_without_curl_it_says_what_to_install(self):
        empty = self.temp / "bin"
        empty.mkdir()
        self.fails("org/good", "curl is not installed", code=1, PATH=str(empty))


class Cache(HubTest):
    def put(self, root):
        folder = root / "models--org--cached"
        blob = folder / "blobs" / "b10b"
        for path, text in ((blob, CONFIG), (folder / "refs" / "main", COMMIT)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        link = folder / "snapshots" / COMMIT / "config.json"
        link.parent.mkdir(parents=True)
        link.symlink_to("../../blobs/b10b")

    def test_what_the_hubs_own_tools_cached_needs_no_network(self):
        self.put(self.cache)
        for options, variables in (((), {}), (("--local-files-only",), {}), ((), {"HF_HUB_OFFLINE": "1"}),
                                   (("--revision", COMMIT), {})):
            self.suggest("org/cached", *options, **variables)
        self.assertEqual(self.hub.requests, [])

    def test_the_cache_is_found_by_every_name_of_it(self):
        self.put(self.temp / "home" / "hub")
        self.suggest("org/cached", "--local-files-only", HF_HUB_CACHE="", HF_HOME="~/home")
        self.put(self.temp / ".cache" / "huggingface" / "hub")
        self.suggest("org/cached", "--local-files-only", HF_HUB_CACHE="")
        self.put(self.temp / "xdg" / "huggingface" / "hub")
        self.suggest("org/cached", "--local-files-only", HF_HUB_CACHE="", XDG_CACHE_HOME=str(self.temp / "xdg"))

    def test_offline_says_that_it_is(self):
        self.fails("org/good", "--local-files-only", code=2, options=("--local-files-only",))
        self.fails("org/good", "HF_HUB_OFFLINE", code=2, HF_HUB_OFFLINE="yes")
        self.assertEqual(self.hub.requests, [])

    def test_a_damaged_cache_is_fetched_again(self):
        self.suggest("org/good")
        (self.folder() / "refs" / "main").write_text("../../../etc")
        self.suggest("org/good")
        (self.folder() / "snapshots" / COMMIT / "config.json").unlink()
        self.suggest("org/good")
        self.assertEqual((self.folder() / "refs" / "main").read_text(), COMMIT)


if __name__ == "__main__":
    unittest.main()
