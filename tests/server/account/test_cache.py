"""Bounded memory and epochs."""

from __future__ import annotations

from chinwag_server.account.cache import Cache, Epochs


def test_a_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache: Cache[int, int] = Cache(100)
    cache.put(-1, -1)
    for number in range(1000):
        cache.put(number, number)
        assert cache.get(-1) == -1
        assert len(cache) <= 100
    assert cache.get(999) == 999
    assert cache.get(0) is None


def test_a_change_gives_a_subject_another_epoch() -> None:
    epochs = Epochs()
    ann, bob = epochs.of("ann"), epochs.of("bob")
    epochs.change("ann")
    assert epochs.of("ann") != ann
    assert epochs.of("bob") == bob


def test_with_too_many_changes_all_of_them_count_as_changed() -> None:
    epochs = Epochs(10)
    before = {f"u{number}": epochs.of(f"u{number}") for number in range(30)}
    for number in range(25):
        changed = f"u{number}"
        epochs.change(changed)
        assert epochs.of(changed) != before[changed]
        assert len(epochs._changed) <= 10
    assert all(epochs.of(subject) != epoch for subject, epoch in before.items())
