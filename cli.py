from embedsearch.commands.app import main

main()
