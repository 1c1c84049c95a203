def test_x():
    import tts
    s = tts.open(traces=16)
    a = s.solve("Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20.")
    print(repr(a)); print(a._repr_html_())
    assert str(a) == "20"
