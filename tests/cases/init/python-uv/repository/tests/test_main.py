def test_one() -> None:
    assert 1
