"""The plan of an update, of files that are only told of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from similar_images.extraction.update import Plan, Status, plan_update
from similar_images.store.facts import Facts


@dataclass
class ToldFiles:
    """Files by name: when they were modified, and their content, None for one that is not there."""

    contents: dict[str, tuple[int, str] | None]
    hashed: list[str] = field(default_factory=list)

    def status(self, name: str) -> Status | None:
        told = self.contents.get(name)
        return Status(len(told[1]), told[0]) if told else None

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        names = [name for name in names if name in self.contents]
        self.hashed += names
        return {name: told[1] for name in names if (told := self.contents[name])}

    def failures(self, names: Iterable[str]) -> dict[str, str]:
        told = {name: self.contents.get(name) for name in names}
        return {name: "damaged" for name, content in told.items() if content is None or content[1] == "damaged"}


def known(*contents: str) -> list[Facts]:
    """Return photos a, b, c ... of these contents, modified at 0."""
    return [
        Facts(row, "abcdefgh"[row], size=len(content), mtime_ns=0, digest=content)
        for row, content in enumerate(contents)
    ]


def planned(photos: Sequence[Facts], **contents: str) -> Plan:
    """Plan with files that were modified at 0."""
    return plan_update(photos, list(contents), ToldFiles({name: (0, content) for name, content in contents.items()}))


def states(plan: Plan) -> list[tuple[str, str]]:
    return [(photo.name, photo.state) for photo in plan.photos]


def happened(plan: Plan) -> dict[str, int]:
    return {what: count for what, count in plan.counts.items() if count}


def test_plan_of_the_same_files_is_not_needed_and_reads_none() -> None:
    files = ToldFiles({"a": (0, "one"), "b": (0, "two")})
    plan = plan_update(known("one", "two"), ["b", "a"], files)
    assert not plan.is_needed and not plan.changes_vectors and not files.hashed
    assert plan.photos == known("one", "two") and plan.appended == []


def test_plan_appends_new_photos_in_the_order_of_the_list() -> None:
    plan = planned(known("one"), z="new", a="one", y="newer")
    assert (plan.appended, happened(plan), plan.changes_vectors) == (["z", "y"], {"added": 2}, True)


def test_plan_removes_rows_whose_names_are_gone() -> None:
    plan = planned(known("one", "two"), b="two")
    assert states(plan) == [("a", "removed"), ("b", "present")] and plan.photos[0].reason == "removed"
    assert (happened(plan), plan.appended, plan.changes_vectors) == ({"removed": 1}, [], True)


def test_plan_never_uses_a_removed_row_again() -> None:
    removed = planned(known("one", "two"), b="two").photos
    plan = planned(removed, a="one", b="two")
    assert states(plan)[0] == ("a", "removed") and (plan.appended, happened(plan)) == (["a"], {"added": 1})


def test_plan_encodes_changed_content_whatever_its_size_as_a_new_row() -> None:
    files = ToldFiles({"a": (1, "ONE"), "b": (0, "longer")})
    plan = plan_update(known("one", "two"), ["a", "b"], files)
    assert states(plan) == [("a", "removed"), ("b", "removed")]
    assert (plan.appended, happened(plan)) == (["a", "b"], {"changed": 2})


def test_plan_of_touched_files_changes_only_their_times() -> None:
    plan = plan_update(known("one"), ["a"], ToldFiles({"a": (5, "one")}))
    assert plan.is_needed and not plan.changes_vectors and happened(plan) == {}
    assert (plan.photos[0].mtime_ns, plan.photos[0].digest) == (5, "one")


def test_plan_follows_a_rename_and_hashes_only_files_of_its_size() -> None:
    files = ToldFiles({"sea/a": (3, "one"), "other": (0, "of another size"), "b": (0, "two")})
    plan = plan_update(known("one", "two"), ["sea/a", "other", "b"], files)
    assert (plan.photos[0].name, plan.photos[0].label, plan.photos[0].mtime_ns) == ("sea/a", "sea", 3)
    assert (plan.appended, happened(plan), files.hashed) == (["other"], {"renamed": 1, "added": 1}, ["sea/a"])


def test_plan_follows_a_rename_that_only_changes_case() -> None:
    assert happened(planned(known("one"), A="one")) == {"renamed": 1}


def test_plan_follows_swapped_and_shifted_names() -> None:
    swapped = planned(known("1", "22"), a="22", b="1")
    assert states(swapped) == [("b", "present"), ("a", "present")]
    assert (swapped.appended, happened(swapped), swapped.changes_vectors) == ([], {"renamed": 2}, False)
    shifted = planned(known("1", "22", "333"), b="1", c="22", d="333")
    assert states(shifted) == [("b", "present"), ("c", "present"), ("d", "present")]
    assert happened(shifted) == {"renamed": 3}


def test_plan_of_a_photo_that_made_room_for_another_follows_it() -> None:
    plan = planned(known("one"), a="another", b="one")
    assert (states(plan), plan.appended) == ([("b", "present")], ["a"])
    assert happened(plan) == {"renamed": 1, "added": 1}


def test_plan_of_a_photo_that_took_the_name_of_another_removes_that() -> None:
    plan = planned(known("one", "another"), a="another")
    assert (states(plan), plan.appended) == ([("a", "removed"), ("a", "present")], [])
    assert happened(plan) == {"renamed": 1, "removed": 1}


def test_plan_matches_copies_one_to_one_and_the_same_base_name_first() -> None:
    files = ToldFiles({"x/b": (0, "same"), "x/a": (0, "same"), "x/n": (0, "same"), "x/m": (0, "same")})
    plan = plan_update(known("same", "same", "same"), list(files.contents), files)
    assert [photo.name for photo in plan.photos] == ["x/a", "x/b", "x/n"]
    assert (plan.appended, happened(plan)) == (["x/m"], {"renamed": 3, "added": 1})


def test_plan_of_a_name_that_is_listed_several_times_has_as_many_rows() -> None:
    photos = [Facts(row, "a", size=3, mtime_ns=0, digest="one") for row in range(2)]
    files = ToldFiles({"a": (0, "one")})
    assert not plan_update(photos, ["a", "a"], files).is_needed
    assert plan_update(photos, ["a", "a", "a"], files).appended == ["a"]
    assert states(plan_update(photos, ["a"], files)) == [("a", "present"), ("a", "removed")]


def test_plan_tries_unreadable_photos_again_and_appends_those_that_can_be_read() -> None:
    photos = [
        Facts(row, "abc"[row], size=7, mtime_ns=0, digest="damaged", state="unreadable", reason="damaged")
        for row in range(3)
    ]
    assert not planned(photos[:1], a="damaged").is_needed
    plan = planned(photos, a="damaged", b="mended!")
    assert states(plan) == [("a", "unreadable"), ("b", "removed"), ("c", "removed")]
    assert (plan.appended, happened(plan)) == (["b"], {"changed": 1, "removed": 1})


def test_plan_of_listed_photos_that_are_not_there_says_so_and_keeps_their_rows() -> None:
    plan = plan_update(known("one"), ["a"], ToldFiles({}))
    assert (plan.photos[0].state, plan.photos[0].reason, plan.changes_vectors) == ("unreadable", "damaged", True)
    assert plan.appended == [] and happened(plan) == {}


def test_plan_of_an_older_gallery_takes_its_photos_for_unchanged() -> None:
    photos = [Facts(0, "a"), Facts(1, "b")]
    plan = planned(photos, a="one", new="two")
    assert (plan.unrecorded, plan.appended, happened(plan)) == ([0], ["new"], {"added": 1, "removed": 1})
    assert planned(photos, a="one", b="two").is_needed
    assert not planned(photos, a="one", b="two").changes_vectors


def test_plan_of_everything_at_once_counts_each_photo_once() -> None:
    photos = known("kept", "touched", "changed", "renamed", "removed")
    files = ToldFiles(
        {"a": (0, "kept"), "b": (9, "touched"), "c": (0, "is new"), "z": (0, "renamed"), "y": (0, "added now")}
    )
    plan = plan_update(photos, ["y", "z", "c", "b", "a"], files)
    assert plan.counts == {"added": 1, "changed": 1, "renamed": 1, "removed": 1}
    assert [name for name, _ in states(plan)] == ["a", "b", "c", "z", "e"]
    assert [state for _, state in states(plan)] == ["present", "present", "removed", "present", "removed"]
    assert plan.appended == ["y", "c"]
