"""MLPerf LoadGen drives ``forwardpass serve`` over HTTP in its four scenarios: ``python -m bench.mlperf``.

LoadGen decides when which samples are sent and judges the run; here is what it needs around it.
Reading order: ``samples`` (what is sent, what must come back), ``client`` (the system under test, as
LoadGen sees it), ``scenario`` (one run of LoadGen), ``search`` (the highest valid rate), ``queueing``
(the highest rate that any server could reach), ``visit`` (one model), ``table`` (what is written).
"""
