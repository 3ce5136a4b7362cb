"""What every key provider keeps of `KeyProvider`; each implementation runs it with its own keys."""

import pytest

from ims.domain.rejection import Category, Reason, Rejection

BLOB = "6f9619ff-first"
OTHER_BLOB = "6f9619ff-second"
ANY_DATA_KEY = bytes(range(32))


def assert_unavailable(rejection, key_id="mine"):
    assert (rejection.category, rejection.reason) == (Category.AGAINST_RULES, Reason.KEY_UNAVAILABLE)
    assert str(rejection) == f"The key {key_id} is not known or is disabled."
    assert rejection.violations[0].metadata == {"keyId": key_id}


class KeyProviderContract:
    """Subclasses have three fixtures.

    `keys` is the provider, `also_keys` that of another process. `holder` holds the keys: it makes
    one (`make_key(name, tenant=None)`, which returns its id), disables, enables and removes one, by
    its id. What it says holds at once, or after what it does for that.
    """

    # use

    def test_a_data_key_unwraps_to_itself(self, keys, holder):
        key_id = holder.make_key("mine")

        data_key = keys.new_data_key(key_id, context=BLOB)

        assert len(data_key.plaintext) == 32
        assert keys.unwrap(key_id, data_key.wrapped, context=BLOB) == data_key.plaintext

    def test_another_process_unwraps_it(self, keys, also_keys, holder):
        key_id = holder.make_key("mine")
        data_key = keys.new_data_key(key_id, context=BLOB)

        assert also_keys.unwrap(key_id, data_key.wrapped, context=BLOB) == data_key.plaintext

    def test_every_data_key_is_a_fresh_one(self, keys, holder):
        key_id = holder.make_key("mine")

        made = [keys.new_data_key(key_id, context=BLOB) for _ in range(50)]

        assert len({data_key.plaintext for data_key in made}) == 50
        assert len({data_key.wrapped for data_key in made}) == 50

    def test_nothing_of_a_data_key_shows_wrapped(self, keys, holder):
        key_id = holder.make_key("mine")
        data_key = keys.new_data_key(key_id, context=BLOB)

        assert not any(
            data_key.plaintext[begin : begin + 4] in data_key.wrapped for begin in range(0, 32, 4)
        )

    def test_in_another_context_it_is_not_unwrapped(self, keys, holder):
        key_id = holder.make_key("mine")
        data_key = keys.new_data_key(key_id, context=BLOB)

        with pytest.raises(Rejection) as rejected:
            keys.unwrap(key_id, data_key.wrapped, context=OTHER_BLOB)

        assert_unavailable(rejected.value)

    def test_a_context_is_any_text(self, keys, holder):
        key_id = holder.make_key("mine")
        data_key = keys.new_data_key(key_id, context="ünï 🗝 /+=\n")

        assert keys.unwrap(key_id, data_key.wrapped, context="ünï 🗝 /+=\n") == data_key.plaintext

    def test_another_key_does_not_unwrap_it(self, keys, holder):
        key_id, other_id = holder.make_key("mine"), holder.make_key("other")
        data_key = keys.new_data_key(key_id, context=BLOB)

        with pytest.raises(Rejection) as rejected:
            keys.unwrap(other_id, data_key.wrapped, context=BLOB)

        assert_unavailable(rejected.value, "other")

    def test_a_changed_one_is_not_unwrapped(self, keys, holder):
        key_id = holder.make_key("mine")
        wrapped = keys.new_data_key(key_id, context=BLOB).wrapped

        for place in range(len(wrapped)):
            changed = bytearray(wrapped)
            changed[place] ^= 4
            with pytest.raises(Rejection) as rejected:
                keys.unwrap(key_id, bytes(changed), context=BLOB)
            assert_unavailable(rejected.value)

    def test_one_cut_short_is_not_unwrapped(self, keys, holder):
        key_id = holder.make_key("mine")
        wrapped = keys.new_data_key(key_id, context=BLOB).wrapped

        for length in (0, 1, 11, 12, 27, 28, len(wrapped) - 1):
            with pytest.raises(Rejection) as rejected:
                keys.unwrap(key_id, wrapped[:length], context=BLOB)
            assert_unavailable(rejected.value)

    @pytest.mark.parametrize(
        "wrapped", [b"", b"vault:v1:", b"vault:v0:AAAA", b"\xff" * 60, b"../x", b"\0"]
    )
    def test_what_was_never_wrapped_is_not_unwrapped(self, keys, holder, wrapped):
        key_id = holder.make_key("mine")

        with pytest.raises(Rejection) as rejected:
            keys.unwrap(key_id, wrapped, context=BLOB)

        assert_unavailable(rejected.value)

    # wrapping what another key had wrapped

    def test_a_data_key_is_handed_from_one_key_to_another(self, keys, holder):
        key_id, other_id = holder.make_key("mine"), holder.make_key("other")
        data_key = keys.new_data_key(key_id, context=BLOB)

        plaintext = keys.unwrap(key_id, data_key.wrapped, context=BLOB)
        handed_on = keys.wrap(other_id, plaintext, context=OTHER_BLOB)

        assert keys.unwrap(other_id, handed_on, context=OTHER_BLOB) == data_key.plaintext
        for wrong in ((key_id, OTHER_BLOB), (other_id, BLOB)):
            with pytest.raises(Rejection):
                keys.unwrap(wrong[0], handed_on, context=wrong[1])

    def test_a_data_key_wrapped_twice_looks_different(self, keys, holder):
        key_id = holder.make_key("mine")

        assert len({keys.wrap(key_id, ANY_DATA_KEY, context=BLOB) for _ in range(5)}) == 5

    # whose a key is

    def test_a_key_without_a_tenant_is_for_every_tenant(self, keys, holder):
        key_id = holder.make_key("mine")

        assert keys.is_usable(key_id, "tenant-a")
        assert keys.is_usable(key_id, "tenant-b")

    def test_a_key_with_a_tenant_is_for_that_tenant_only(self, keys, holder):
        key_id = holder.make_key("mine", tenant="tenant-a")

        assert keys.is_usable(key_id, "tenant-a")
        for other in ("tenant-b", "tenant-", "tenant-a.", "tenant-a.mine", "TENANT-A", ""):
            assert not keys.is_usable(key_id, other)

    # what makes it unavailable

    def test_an_unknown_key_is_for_nobody(self, keys, holder):
        holder.make_key("mine")

        assert not keys.is_usable("unknown", "tenant-a")
        self.assert_of_no_use(keys, "unknown")

    @pytest.mark.parametrize(
        "key_id",
        [
            "",
            ".",
            "..",
            "../mine",
            "mine/../mine",
            "mine?x=1",
            "mine#",
            "mi ne",
            "mine\n",
            "%6dine",
            "m\0",
        ],
    )
    def test_what_is_no_key_id_is_an_unknown_key(self, keys, holder, key_id):
        holder.make_key("mine")

        assert not keys.is_usable(key_id, "tenant-a")
        self.assert_of_no_use(keys, key_id)

    def test_a_disabled_key_is_of_no_use_until_it_is_enabled(self, keys, holder):
        key_id, other_id = holder.make_key("mine"), holder.make_key("other")
        assert keys.is_usable(key_id, "tenant-a")
        data_key = keys.new_data_key(key_id, context=BLOB)

        holder.disable(key_id)

        assert not keys.is_usable(key_id, "tenant-a")
        self.assert_of_no_use(keys, key_id, data_key.wrapped)
        assert keys.is_usable(other_id, "tenant-a")

        holder.enable(key_id)

        assert keys.is_usable(key_id, "tenant-a")
        assert keys.unwrap(key_id, data_key.wrapped, context=BLOB) == data_key.plaintext

    def test_a_key_that_was_removed_is_of_no_use(self, keys, holder):
        key_id = holder.make_key("mine")
        assert keys.is_usable(key_id, "tenant-a")
        data_key = keys.new_data_key(key_id, context=BLOB)

        holder.remove(key_id)

        assert not keys.is_usable(key_id, "tenant-a")
        self.assert_of_no_use(keys, key_id, data_key.wrapped)

    def assert_of_no_use(self, keys, key_id, wrapped=b"vault:v1:" + b"A" * 80):
        for use in (
            lambda: keys.new_data_key(key_id, context=BLOB),
            lambda: keys.wrap(key_id, ANY_DATA_KEY, context=BLOB),
            lambda: keys.unwrap(key_id, wrapped, context=BLOB),
        ):
            with pytest.raises(Rejection) as rejected:
                use()
            assert_unavailable(rejected.value, key_id)

    # secrecy

    def test_no_repr_shows_a_data_key(self, keys, holder):
        data_key = keys.new_data_key(holder.make_key("mine"), context=BLOB)

        assert repr(data_key.plaintext)[2:-1] not in repr(data_key) + str(data_key) + repr(keys)
        assert "wrapped=" in repr(data_key)
