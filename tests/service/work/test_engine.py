"""Names under which DBOS finds work in flight: a changed one loses it."""

from dbos._dbos import _get_or_create_dbos_registry

from mirv.service.work import engine

STEPS = {
    "_begin", "_analyse", "_render", "_refuse", "_fail",
    "_parked", "_attempt", "_park_all",
    "_fetch_from",
    "_find_prior", "_fetch_prior_series", "_note_unanswered",
    "_notify",
    "_tell",
}  # fmt: skip


def test_workflows_and_steps_keep_the_names_they_are_recorded_under() -> None:
    names = {one.__qualname__ for one in engine.WORKFLOWS}
    assert names == {"process_run", "deliver", "fetch", "fetch_prior", "tell", "tell_commitment"}
    known = _get_or_create_dbos_registry().workflow_info_map
    assert names | {f"<temp>.{step}" for step in STEPS} <= set(known)
    assert engine.WORKFLOW_VERSION == "mirv-1"
    assert engine.queue_to("PACS") == "deliveries:PACS"
