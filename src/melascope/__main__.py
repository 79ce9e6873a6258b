from melascope.cli.main import run

run()
