# Copyright (c) 2026, llmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One place for each fact: defaults equal argument specifications, documented keys equal those of the normaliser."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.llmops.fleet.plugins.module_utils import _engines, _spec

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parent.parent for path in ROOT.glob("roles/*/meta/main.yml"))


def load(path):
    return yaml.safe_load(path.read_text()) or {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_equal_argument_specs(role):
    specs = load(role / "meta/argument_specs.yml")["argument_specs"]
    specified = {}
    for entry in specs.values():
        for name, option in entry.get("options", {}).items():
            assert specified.setdefault(name, option.get("default")) == option.get("default"), name
    defaults = load(role / "defaults/main.yml")
    assert {name: value for name, value in specified.items() if value is not None} == {
        name: value for name, value in defaults.items() if value is not None
    }
    assert set(defaults) <= set(specified)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_entry_point_is_specified_and_every_variable_prefixed(role):
    specs = load(role / "meta/argument_specs.yml")["argument_specs"]
    assert all((role / "tasks" / f"{entry}.yml").is_file() for entry in specs)
    for entry in specs.values():
        assert {"short_description", "description"} <= set(entry)
        assert all(name.startswith(f"{role.name}_") for name in entry.get("options", {}))


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/tasks/*.yml")), ids=lambda p: f"{p.parts[-3]}/{p.name}")
def test_task_files_are_small(path):
    def count(tasks):
        return sum(1 + sum(count(task.get(key, [])) for key in ("block", "rescue", "always")) for task in tasks)

    assert count(yaml.safe_load(path.read_text())) <= 20


@pytest.mark.parametrize(("variable", "keys"), [("models", _spec.MODEL_KEYS), ("services", _spec.SERVICE_KEYS)])
def test_documented_keys_are_the_ones_the_normaliser_knows(variable, keys):
    spec = load(ROOT / "roles/validate_inventory/meta/argument_specs.yml")["argument_specs"]["main"]
    options = spec["options"][f"validate_inventory_{variable}"]["options"]
    assert sorted(options) == sorted(keys)
    choices = {
        "source": _spec.SOURCES,
        "task": _spec.TASKS,
        "state": _spec.STATES,
        "languages": _spec.LANGUAGES,
        "engine": tuple(_engines.ENGINES),
    }
    for name, option in options.items():
        assert tuple(option.get("choices", choices.get(name, ()))) == choices.get(name, ())
