# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.llmops.fleet.plugins.module_utils._errors import SpecError
from ansible_collections.llmops.fleet.plugins.module_utils._image import ImageName

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("busybox:1.37", (None, "busybox", "1.37", None)),
        ("vllm/vllm-openai:v0.20.2", (None, "vllm/vllm-openai", "v0.20.2", None)),
        ("ghcr.io/a/b/c:x", ("ghcr.io", "a/b/c", "x", None)),
        ("10.0.0.1:5000/llmops/vllm:1@" + DIGEST, ("10.0.0.1:5000", "llmops/vllm", "1", DIGEST)),
        ("localhost/a:1", ("localhost", "a", "1", None)),
        ("[::1]:5000/a:1", ("[::1]:5000", "a", "1", None)),
        ("a/b@" + DIGEST, (None, "a/b", None, DIGEST)),
    ],
)
def test_parse_and_print(reference, expected):
    image = ImageName.parse(reference, "image")
    assert (image.registry, image.path, image.tag, image.digest) == expected
    assert str(image) == reference


@pytest.mark.parametrize(
    "reference", ["", "a", "a:latest", "UPPER:1", "a:b:c", "a@sha256:short", "http://a/b:1", "a//b:1"]
)
def test_what_floats_or_is_no_reference_is_refused(reference):
    with pytest.raises(SpecError, match=r"^here: "):
        ImageName.parse(reference, "here")


def test_digest_makes_latest_stand_still():
    assert ImageName.parse(f"a:latest@{DIGEST}", "image").digest == DIGEST


def test_names_in_the_engine():
    assert ImageName.parse("r:5000/a:1@" + DIGEST, "i").stored_names() == {f"r:5000/a@{DIGEST}"}
    assert ImageName.parse("a/b:1", "i").stored_names() == {"a/b:1"}
    assert ImageName.parse("docker.io/library/busybox:1", "i").stored_names() == {"busybox:1"}
