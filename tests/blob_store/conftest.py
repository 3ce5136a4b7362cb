"""One blob store in a folder of its own, and the asserts of the contract spelt out when they fail."""

import pytest

pytest.register_assert_rewrite("blob_store.contract", "blob_store.resumption")

from ims.blob_store.filesystem import FilesystemBlobStore  # noqa: E402  # after the line above


@pytest.fixture
def store(tmp_path):
    return FilesystemBlobStore(tmp_path / "store")
