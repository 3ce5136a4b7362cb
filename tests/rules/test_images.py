"""What an image may be called and hold (law 5), rule by rule."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders import (
    a_disk,
    a_full_ecs_image,
    an_image,
)
from ims.domain.image import (
    GIB,
    DiskRole,
    ImageType,
    Source,
    SourceKind,
)
from ims.domain.rejection import Category, Reason
from ims.rules.changes import (
    UPDATE_IMAGE,
)
from ims.rules.creation import (
    CREATE_IMAGE,
)
from ims.rules.images import (
    an_image_has_at_most_ten_tags,
    descriptions_are_one_plain_line,
    max_disk_gib,
    memory_bounds_make_sense,
    min_disk_holds_the_disk_inside_the_file,
    min_disk_is_within_its_range,
    names_are_1_to_128_plain_characters,
    names_are_unique_among_live_images,
    names_with_two_underscores_are_reserved,
    one_backup_makes_one_image,
    tags_are_short_and_plain,
    whole_gib,
)
from rules.facts import (
    a_creation,
    a_creation_of,
    a_draft,
    an_undeletion,
    an_update,
    is_kept,
    the_violation,
)

LETTERS_AND_DIGITS = string.ascii_letters + string.digits


class TestNamesAre1To128PlainCharacters:
    @pytest.mark.parametrize(
        "name", ["a", "Z", "0", "-", ".", "_", "a b", "Debian 12.5_x86-64", "x" * 128]
    )
    def test_plain_names_are_taken(self, name: str):
        assert is_kept(names_are_1_to_128_plain_characters, a_creation_of(name=name))

    @pytest.mark.parametrize(
        "name",
        [
            "",
            " ",
            " a",
            "a ",
            "a\n",
            "\ta",
            "a\u00a0b",
            "größe",
            "a/b",
            "a:b",
            "<b>",
            "名",
            "٣",
            "x" * 129,
        ],
    )
    def test_others_are_refused(self, name: str):
        violation = the_violation(names_are_1_to_128_plain_characters, a_creation_of(name=name))

        assert violation.reason is Reason.INVALID_NAME
        assert violation.subject == "name"
        assert violation.metadata == {"maxNameLength": 128, "nameLength": len(name)}

    @pytest.mark.parametrize("character", string.printable)
    def test_of_printable_characters_those_of_the_law_are_taken(self, character: str):
        kept = is_kept(names_are_1_to_128_plain_characters, a_creation_of(name=f"a{character}b"))

        assert kept is (character in f"{LETTERS_AND_DIGITS}-._ ")

    @given(st.text(st.sampled_from(f"{LETTERS_AND_DIGITS}-._ "), max_size=130) | st.text(max_size=130))
    def test_of_any_text_those_are_names_that_the_law_describes(self, name: str):
        lawful = (
            1 <= len(name) <= 128
            and set(name) <= set(f"{LETTERS_AND_DIGITS}-._ ")
            and name[0] != " "
            and name[-1] != " "
        )

        assert is_kept(names_are_1_to_128_plain_characters, a_creation_of(name=name)) is lawful


class TestNamesWithTwoUnderscoresAreReserved:
    @pytest.mark.parametrize("name", ["_", "_a", "a__", "a__b", "-__a", "_-_"])
    def test_others_are_free(self, name: str):
        attempt = a_creation_of(name=name, tags=((name, ""),))

        assert is_kept(names_with_two_underscores_are_reserved, attempt)

    @pytest.mark.parametrize("name", ["__", "__a", "___"])
    def test_an_images_name(self, name: str):
        violation = the_violation(names_with_two_underscores_are_reserved, a_creation_of(name=name))

        assert violation.reason is Reason.RESERVED_NAME
        assert violation.subject == "name"
        assert violation.metadata == {"reservedPrefix": "__"}

    def test_a_tags_key_but_not_its_value(self):
        attempt = a_creation_of(tags=(("__system", "a"), ("plain", "__a")))

        assert the_violation(names_with_two_underscores_are_reserved, attempt).subject == "tags"

    def test_every_reserved_name_is_told(self):
        attempt = a_creation_of(name="__a", tags=(("__b", ""), ("__c", "")))

        violations = list(names_with_two_underscores_are_reserved.violations(attempt))
        assert [each.subject for each in violations] == ["name", "tags", "tags"]


LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


class TestDescriptionsAreOnePlainLine:
    @pytest.mark.parametrize(
        "text", ["", " ", "Web server, with größe & 名 / a\tb.", "x" * 1024, "名" * 1024]
    )
    def test_a_plain_line_is_taken(self, text: str):
        assert is_kept(descriptions_are_one_plain_line, a_creation_of(description=text))

    @pytest.mark.parametrize("text", ["x" * 1025, "a\nb", "a\r\nb", "<", ">", "a < b", "\n"])
    def test_others_are_refused(self, text: str):
        violation = the_violation(descriptions_are_one_plain_line, a_creation_of(description=text))

        assert violation.reason is Reason.INVALID_DESCRIPTION
        assert violation.subject == "description"
        assert violation.metadata == {"maxDescriptionLength": 1024, "descriptionLength": len(text)}

    @pytest.mark.parametrize("character", LINE_BREAKS)
    @pytest.mark.parametrize("text", ["{}", "a{}", "{}b", "a{}b"])
    def test_every_kind_of_line_break_is_one_wherever_it_is(self, text: str, character: str):
        attempt = a_creation_of(description=text.format(character))

        assert the_violation(descriptions_are_one_plain_line, attempt)

    @given(st.text(max_size=1026))
    def test_of_any_text_those_are_descriptions_that_the_law_describes(self, text: str):
        lawful = len(text) <= 1024 and not set(text) & set(f"{LINE_BREAKS}<>")

        assert is_kept(descriptions_are_one_plain_line, a_creation_of(description=text)) is lawful


class TestTagsAreShortAndPlain:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("a", ""),
            ("k" * 36, "v" * 43),
            ("Az09_-", "Az09_-."),
            ("-", "-"),
            ("_", "."),
        ],
    )
    def test_plain_tags_are_taken(self, key: str, value: str):
        assert is_kept(tags_are_short_and_plain, a_creation_of(tags=((key, value),)))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("", "v"),
            ("k" * 37, "v"),
            ("k", "v" * 44),
            ("a.b", "v"),
            ("a b", "v"),
            ("k", "a b"),
            ("größe", "v"),
            ("k", "größe"),
            ("k\n", "v"),
            ("k", "v\n"),
            ("k", "a=b"),
        ],
    )
    def test_others_are_refused(self, key: str, value: str):
        violation = the_violation(tags_are_short_and_plain, a_creation_of(tags=((key, value),)))

        assert violation.reason is Reason.INVALID_TAG
        assert violation.subject == "tags"
        assert violation.metadata == {
            "maxKeyLength": 36,
            "maxValueLength": 43,
            "keyLength": len(key),
            "valueLength": len(value),
        }

    @pytest.mark.parametrize("character", string.printable)
    def test_of_printable_characters_those_of_the_law_are_taken(self, character: str):
        key = a_creation_of(tags=((character, "v"),))
        value = a_creation_of(tags=(("k", character),))

        assert is_kept(tags_are_short_and_plain, key) is (character in f"{LETTERS_AND_DIGITS}_-")
        assert is_kept(tags_are_short_and_plain, value) is (character in f"{LETTERS_AND_DIGITS}_-.")

    @given(
        st.text(st.sampled_from("aZ9_-") | st.characters(), max_size=38),
        st.text(st.sampled_from("aZ9_-.") | st.characters(), max_size=45),
    )
    @example("k" * 36, "v" * 43)
    def test_of_any_texts_those_are_tags_that_the_law_describes(self, key: str, value: str):
        lawful = (
            1 <= len(key) <= 36
            and set(key) <= set(f"{LETTERS_AND_DIGITS}_-")
            and len(value) <= 43
            and set(value) <= set(f"{LETTERS_AND_DIGITS}_-.")
        )

        assert is_kept(tags_are_short_and_plain, a_creation_of(tags=((key, value),))) is lawful

    def test_every_bad_tag_is_told(self):
        attempt = a_creation_of(tags=(("a.b", ""), ("good", ""), ("c.de", "")))

        violations = list(tags_are_short_and_plain.violations(attempt))
        assert [each.metadata["keyLength"] for each in violations] == [3, 4]


class TestAnImageHasAtMostTenTags:
    @pytest.mark.parametrize("count", [0, 1, 10])
    def test_up_to_ten_are_taken(self, count: int):
        tags = tuple((f"key-{number}", "") for number in range(count))

        assert is_kept(an_image_has_at_most_ten_tags, a_creation_of(tags=tags))

    def test_the_eleventh_is_refused(self):
        tags = tuple((f"key-{number}", "") for number in range(11))

        violation = the_violation(an_image_has_at_most_ten_tags, a_creation_of(tags=tags))
        assert violation.reason is Reason.TOO_MANY_TAGS
        assert violation.metadata == {"maxTags": 10, "tags": 11}


MOST_GIB = {
    ImageType.SYSTEM_DISK: 1024,
    ImageType.DATA_DISK: 2048,
    ImageType.FULL_ECS: 1024,
    ImageType.ISO: 1024,
}


class TestMinDiskIsWithinItsRange:
    @pytest.mark.parametrize("image_type", ImageType)
    def test_from_1_to_the_largest_such_disk(self, image_type: ImageType):
        for gib in (1, MOST_GIB[image_type]):
            attempt = a_creation_of(type=image_type, min_disk_gib=gib)

            assert is_kept(min_disk_is_within_its_range, attempt)

    def test_0_leaves_it_to_the_file(self):
        assert is_kept(min_disk_is_within_its_range, a_creation_of(min_disk_gib=0))

    @pytest.mark.parametrize("image_type", ImageType)
    def test_nothing_below_or_above(self, image_type: ImageType):
        for gib in (-1, MOST_GIB[image_type] + 1):
            violation = the_violation(
                min_disk_is_within_its_range, a_creation_of(type=image_type, min_disk_gib=gib)
            )

            assert violation.reason is Reason.INVALID_MIN_DISK
            assert violation.metadata == {"maxMinDiskGib": MOST_GIB[image_type], "minDiskGib": gib}

    @pytest.mark.parametrize(
        ("role", "gib"),
        [(DiskRole.SYSTEM, 1024), (DiskRole.DATA, 2048), (DiskRole.INSTALLATION_MEDIUM, 1024)],
    )
    def test_the_largest_disk_depends_on_its_role(self, role: DiskRole, gib: int):
        assert max_disk_gib(role) == gib


class TestMemoryBoundsMakeSense:
    @pytest.mark.parametrize(("least", "most"), [(0, 0), (1, 0), (0, 1), (1024, 1024), (1024, 1025)])
    def test_bounds_that_leave_something_between(self, least: int, most: int):
        assert is_kept(memory_bounds_make_sense, a_creation_of(min_ram_mib=least, max_ram_mib=most))

    @pytest.mark.parametrize(
        ("least", "most", "subject"),
        [
            (-1, 0, "min_ram_mib"),
            (0, -1, "max_ram_mib"),
            (1025, 1024, "max_ram_mib"),
            (2, 1, "max_ram_mib"),
        ],
    )
    def test_bounds_that_do_not(self, least: int, most: int, subject: str):
        violation = the_violation(
            memory_bounds_make_sense, a_creation_of(min_ram_mib=least, max_ram_mib=most)
        )

        assert violation.reason is Reason.INVALID_RAM
        assert violation.subject == subject
        assert violation.metadata == {"minRamMib": least, "maxRamMib": most}

    @given(st.integers(-3, 3), st.integers(-3, 3))
    def test_of_any_bounds_those_make_sense_that_the_law_describes(self, least: int, most: int):
        lawful = least >= 0 and (most == 0 or most >= least)

        attempt = a_creation_of(min_ram_mib=least, max_ram_mib=most)
        assert is_kept(memory_bounds_make_sense, attempt) is lawful


class TestMinDiskHoldsTheDiskInsideTheFile:
    @pytest.mark.parametrize(
        ("min_disk_gib", "capacity_bytes"),
        [(2, 2 * GIB), (2, 2 * GIB - 1), (3, 2 * GIB + 1), (0, 2 * GIB), (1, 1), (1, 0)],
    )
    def test_the_disk_fits(self, min_disk_gib: int, capacity_bytes: int):
        draft = an_image(min_disk_gib=min_disk_gib, disks=(a_disk(capacity_bytes=capacity_bytes),))

        assert is_kept(min_disk_holds_the_disk_inside_the_file, an_update(draft=draft))

    @pytest.mark.parametrize(("min_disk_gib", "capacity_bytes"), [(1, 2 * GIB), (2, 2 * GIB + 1)])
    def test_the_disk_does_not_fit(self, min_disk_gib: int, capacity_bytes: int):
        draft = an_image(min_disk_gib=min_disk_gib, disks=(a_disk(capacity_bytes=capacity_bytes),))

        violation = the_violation(min_disk_holds_the_disk_inside_the_file, an_update(draft=draft))
        assert violation.reason is Reason.MIN_DISK_TOO_SMALL
        assert violation.metadata == {
            "minDiskGib": min_disk_gib,
            "capacityBytes": capacity_bytes,
            "neededGib": min_disk_gib + 1,
        }

    def test_of_a_full_ecs_image_the_system_disk_counts(self):
        data = a_disk(index=1, role=DiskRole.DATA, capacity_bytes=100 * GIB)
        draft = a_full_ecs_image(min_disk_gib=2, disks=(a_disk(), data))

        assert is_kept(min_disk_holds_the_disk_inside_the_file, an_update(draft=draft))

    def test_it_is_no_matter_of_creation_when_no_file_is_there_yet(self):
        assert min_disk_holds_the_disk_inside_the_file not in CREATE_IMAGE
        assert min_disk_holds_the_disk_inside_the_file in UPDATE_IMAGE

    @given(st.integers(0, 2**62))
    def test_whole_gib_hold_the_bytes_and_no_gib_too_many(self, size_bytes: int):
        gib = whole_gib(size_bytes)

        assert (gib - 1) * GIB < size_bytes <= gib * GIB


class TestNamesAreUniqueAmongLiveImages:
    def test_a_free_name(self):
        assert is_kept(names_are_unique_among_live_images, a_creation(name_taken=False))

    @pytest.mark.parametrize(
        "attempt",
        [
            a_creation(draft=a_draft(name="debian"), name_taken=True),
            an_update(draft=an_image(name="debian"), name_taken=True),
            an_undeletion(image=an_image(name="debian"), name_taken=True),
        ],
        ids=["creation", "update", "undeletion"],
    )
    def test_a_name_that_another_live_image_has(self, attempt):
        violation = the_violation(names_are_unique_among_live_images, attempt)

        assert violation.reason is Reason.IMAGE_NAME_TAKEN
        assert violation.metadata == {"name": "debian"}
        assert names_are_unique_among_live_images.category is Category.EXISTS


class TestOneBackupMakesOneImage:
    def test_an_unused_backup(self):
        assert is_kept(one_backup_makes_one_image, a_creation(backup_used=False))

    def test_a_backup_that_made_an_image_already(self):
        source = Source(kind=SourceKind.CBR_BACKUP, id="backup-1")

        for attempt in (
            a_creation(draft=a_draft(source=source), backup_used=True),
            an_undeletion(image=an_image(source=source), backup_used=True),
        ):
            violation = the_violation(one_backup_makes_one_image, attempt)
            assert violation.reason is Reason.BACKUP_ALREADY_USED
            assert violation.metadata == {"backupId": "backup-1"}
