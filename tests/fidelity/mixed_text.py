"""A mixed text of our own: prose, code, numbers; over 300 tokens."""

TEXT = '''The lighthouse keeper had counted ships for thirty-one years, and in all that time he had never once been \
wrong. On the morning of 14 March 1897 the fog came in so thick that he could not see his own hands. He lit the lamp \
at 4:52, wound the clockwork, and listened. Somewhere to the south a bell was ringing, slowly, as if the sea itself \
were breathing.

def moving_average(values, window=3):
    """Return the mean of each run of `window` numbers."""
    if window <= 0:
        raise ValueError("window must be positive")
    total = sum(values[:window])
    result = [total / window]
    for old, new in zip(values, values[window:]):
        total += new - old
        result.append(total / window)
    return result

Revenue in 2019 was 1,284.6 million, up 7.3% from 1,197.2 million in 2018; costs rose 4.1% to 902.5 million, leaving \
382.1 million before tax. The board proposed a dividend of 0.42 per share, payable on 15 June.

Photosynthesis converts light energy into chemical energy. In the light reactions, water is split and oxygen is \
released; in the Calvin cycle, carbon dioxide is fixed into sugars using the ATP and NADPH made before.
SELECT name, COUNT(*) FROM orders WHERE total > 100 GROUP BY name ORDER BY 2 DESC LIMIT 10;
'''
